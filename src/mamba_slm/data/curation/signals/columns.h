// The columns of the result: the fields of `definition.Signals`, in their order; `native.py` compares the names.
#pragma once

#define SIGNALS(X)                                                                                                     \
  X(characters) X(word_characters) X(words) X(distinct_words) X(alphabetic_words) X(stop_words) X(distinct_stop_words) \
  X(sentences) X(alphabetic_characters) X(digit_characters) X(upper_characters) X(hash_marks) X(ellipses)              \
  X(curly_brackets) X(run_characters) X(longest_run) X(link_words) X(link_characters) X(newlines) X(lines)             \
  X(line_characters) X(longest_line) X(duplicate_lines) X(duplicate_line_characters) X(bullet_lines) X(ellipsis_lines) \
  X(terminal_lines) X(short_lines) X(few_word_lines) X(javascript_lines) X(lorem_ipsum_lines) X(policy_lines)          \
  X(paragraphs) X(paragraph_characters) X(duplicate_paragraphs) X(duplicate_paragraph_characters)                      \
  X(top_2gram_characters) X(top_3gram_characters) X(top_4gram_characters) X(duplicate_5gram_characters)                \
  X(duplicate_6gram_characters) X(duplicate_7gram_characters) X(duplicate_8gram_characters)                            \
  X(duplicate_9gram_characters) X(duplicate_10gram_characters)

namespace column {
#define COLUMN(name) name,
enum { SIGNALS(COLUMN) COUNT };
}  // namespace column
