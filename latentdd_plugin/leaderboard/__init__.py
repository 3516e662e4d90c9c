"""From a run to an entry that anyone can check: submit, verify, and the page that shows them."""
