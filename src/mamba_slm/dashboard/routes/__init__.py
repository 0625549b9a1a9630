"""What the pages and their scripts ask for; who asks was checked before."""
