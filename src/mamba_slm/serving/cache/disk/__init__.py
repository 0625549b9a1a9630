"""States of prompts on the disk, for a server that is started again."""
