"""Records of finished work, their statistics, and the pages and plots that show them."""
