"""From a run to an entry that anyone can check: submit, verify, and the site that shows them."""
