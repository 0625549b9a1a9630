"""Quality signals of a text: defined in Python, measured in C++, judged and scored by tables."""
