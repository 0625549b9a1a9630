// Every signal of definition.py for a batch of texts, equal to the last bit. Two ideas make it fast: characters are
// examined once for each distinct word, and n-grams are looked up only inside repetitions (ngrams.h).
#include <new>

#include "columns.h"
#include "ngrams.h"
#include "words.h"

namespace {

constexpr uint32_t SHORT_LINE_CHARACTERS = 30, FEW_WORDS = 5;

struct Line {
  uint32_t start, end, first_word, end_word;
  bool begins_paragraph;
};

struct Span {
  uint32_t start, end;
};

struct Remembered {
  uint64_t key;  // of a word of less than 8 bytes: itself
  Word word;
  uint32_t longest_run;
};

class Measurer {
 public:
  Measurer(const Classes &classes, const Vocabulary &vocabulary, const uint8_t *readable_end)
      : classes(classes), vocabulary(vocabulary), readable_end(readable_end) {}

  // One text of less than 4 GB; `row` gets its signals.
  void measure(const uint8_t *content, uint64_t bytes, int64_t *row) {
    text = content, size = bytes, out = row;
    std::fill(out, out + column::COUNT, 0);
    distinct.clear(), rare.clear(), times.clear(), lines.clear();
    split();
    number_words();
    find_lines();
    out[column::characters] = count_code_points(text, text + size);
    measure_words();
    measure_lines();
    measure_paragraphs();
    ngrams.measure(sequence.data(), num_words, distinct.data(), times.data(), out + column::top_2gram_characters);
  }

 private:
  const Classes &classes;
  const Vocabulary &vocabulary;
  const uint8_t *const readable_end;
  const uint8_t *text = nullptr;
  uint64_t size = 0;
  int64_t *out = nullptr;
  Table table;
  size_t num_words = 0;
  std::vector<Span> words, spans;
  std::vector<uint32_t> sequence, times;  // the text as numbers of words; how often each number occurs
  std::vector<Word> distinct;             // by number
  std::vector<Rare> rare;
  std::vector<Remembered> remembered = std::vector<Remembered>(4096);
  std::vector<Line> lines;
  std::vector<uint32_t> firsts;  // by number, the span that had it first
  Ngrams ngrams;

  // Finds words by the borders of white space, 64 bytes at a time.
  void split() {
    if (words.size() < size / 2 + 65) words.resize(size / 2 + 65);
    uint64_t before = 1, spill = 0;  // whether the byte before the block is white; white bits of the next block
    size_t started = 0, ended = 0;
    for (uint64_t base = 0; base < size; base += 64) {
      const Block block = size - base < 64 ? Block(text + base, size - base, ' ') : Block(text + base);
      uint64_t white = block.in_range(9, 5) | block.in_range(28, 5) | spill;
      spill = 0;
      for (uint64_t high = block.in_range(128, 128); high; high &= high - 1) {
        int bit = __builtin_ctzll(high);
        const uint8_t *p = text + base + bit;
        uint32_t length;
        if (!classes.white_leads[*p] || !(classes[decode(p, text + size, length)] & WHITE)) continue;
        uint64_t bits = (uint64_t(1) << length) - 1;
        white |= bits << bit;
        if (bit + length > 64) spill = bits >> (64 - bit);
      }
      const uint64_t shifted = white << 1 | before;
      before = white >> 63;
      for (uint64_t left = ~white & shifted; left; left &= left - 1)
        words[started++].start = base + __builtin_ctzll(left);
      for (uint64_t left = white & ~shifted; left; left &= left - 1)
        words[ended++].end = base + __builtin_ctzll(left);
    }
    if (ended < started) words[ended].end = size;
    num_words = started;
  }

  // Gives every word a number, in the order of first occurrence.
  void number_words() {
    table.empty(size / 16);
    if (sequence.size() < num_words) sequence.resize(num_words);
    for (size_t i = 0; i < num_words; ++i) {
      const Span span = words[i];
      const uint8_t *p = text + span.start;
      const uint32_t bytes = span.end - span.start;
      uint64_t key = 0;
      if (bytes < 8) {  // the bytes themselves and how many they are
        if (p + 8 <= readable_end) {
          key = load8(p) & ((uint64_t(1) << 8 * bytes) - 1);
        } else {
          memcpy(&key, p, bytes);
        }
        key |= uint64_t(bytes) << 56;
      } else {
        key = hash_bytes(p, bytes) | uint64_t(255) << 56;
      }
      bool is_new;
      const uint32_t number = table.number_of(key, is_new, [&](uint32_t known) {
        return bytes < 8 || (distinct[known].bytes == bytes && !memcmp(text + distinct[known].start, p, bytes));
      });
      sequence[i] = number;
      if (is_new) {
        add_distinct(span, key);
      } else {
        ++times[number];
      }
    }
  }

  // Short words without rarities are remembered from text to text; what is remembered is what would be found again.
  void add_distinct(Span span, uint64_t key) {
    Remembered &known = remembered[mixed(key) >> 52];
    if (known.key != key) {
      Word word{span.start, span.end - span.start, 0, 0, 0, 0, false, false, false, false};
      Rare one{uint32_t(distinct.size()), 0, 0, 0, 0, 0, 0};
      examine(word, one, text + span.start, classes, vocabulary);
      if (one.is_any()) rare.push_back(one);
      distinct.push_back(word);
      out[column::longest_run] = std::max<int64_t>(out[column::longest_run], one.longest_run);
      if (word.bytes < 8 && !one.is_any()) known = {key, word, one.longest_run};
    } else {
      distinct.push_back(known.word);
      distinct.back().start = span.start;
      out[column::longest_run] = std::max<int64_t>(out[column::longest_run], known.longest_run);
    }
    times.push_back(1);
  }

  // A line end between two words begins a line, a second one a paragraph.
  void find_lines() {
    uint64_t last_end = 0;
    for (size_t i = 0; i < num_words; ++i) {
      const uint64_t start = words[i].start;
      if (i && start == last_end + 1 && text[last_end] != '\n') {
        last_end = words[i].end;
        continue;
      }
      const uint64_t found = newlines_in(last_end, start);
      out[column::newlines] += found;
      if (found || !i) {
        if (i) lines.back().end = last_end, lines.back().end_word = i;
        lines.push_back({uint32_t(start), 0, uint32_t(i), 0, found > 1 || !i});
      }
      last_end = words[i].end;
    }
    if (num_words) lines.back().end = last_end, lines.back().end_word = num_words;
    out[column::newlines] += newlines_in(last_end, size);
  }

  uint64_t newlines_in(uint64_t from, uint64_t to) const { return std::count(text + from, text + to, '\n'); }

  void measure_words() {
    uint32_t stop_words_seen = 0;
    for (size_t number = 0; number < distinct.size(); ++number) {
      const Word &word = distinct[number];
      int64_t n = times[number];
      out[column::word_characters] += n * word.characters;
      out[column::alphabetic_words] += word.letters ? n : 0;
      out[column::sentences] += word.ends_sentence ? n : 0;
      out[column::alphabetic_characters] += n * word.letters;
      out[column::upper_characters] += n * word.upper;
      out[column::link_words] += word.is_link ? n : 0;
      out[column::link_characters] += word.is_link ? n * word.characters : 0;
      if (word.code && word.code <= vocabulary.num_stop_words) {
        out[column::stop_words] += n;
        stop_words_seen |= 1u << word.code;
      }
    }
    for (const Rare &one : rare) {
      int64_t n = times[one.number];
      out[column::digit_characters] += n * one.digits;
      out[column::hash_marks] += n * one.hash_marks;
      out[column::ellipses] += n * one.ellipses;
      out[column::curly_brackets] += n * one.curly_brackets;
      out[column::run_characters] += n * one.run_characters;
    }
    out[column::words] = num_words;
    out[column::distinct_words] = distinct.size();
    out[column::distinct_stop_words] = __builtin_popcount(stop_words_seen);
  }

  void measure_lines() {
    spans.clear();
    for (const Line &line : lines) {
      const Word &first = distinct[sequence[line.first_word]], &last = distinct[sequence[line.end_word - 1]];
      uint64_t length = count_code_points(text + line.start, text + line.end);
      out[column::line_characters] += length;
      out[column::longest_line] = std::max<int64_t>(out[column::longest_line], length);
      out[column::bullet_lines] += first.is_bullet;
      out[column::ellipsis_lines] += last.ends_ellipsis;
      out[column::terminal_lines] += last.ends_sentence;
      out[column::short_lines] += length <= SHORT_LINE_CHARACTERS;
      out[column::few_word_lines] += line.end_word - line.first_word < FEW_WORDS;
      spans.push_back({line.start, line.end});
    }
    out[column::lines] = lines.size();
    count_repeated(column::duplicate_lines, column::duplicate_line_characters);
    auto is_wanted = [&](const Word &word) { return word.code > vocabulary.num_stop_words; };
    if (std::any_of(distinct.begin(), distinct.end(), is_wanted))
      for (const Line &line : lines) find_phrases(line);
  }

  // Families are in the order of their columns; every phrase begins with a word that is no stop word.
  void find_phrases(const Line &line) {
    uint32_t families = 0;
    for (uint32_t place = line.first_word; place < line.end_word; ++place) {
      if (distinct[sequence[place]].code <= vocabulary.num_stop_words) continue;
      for (int64_t i = 0; i < vocabulary.num_phrases; ++i) {
        const int64_t *phrase = vocabulary.phrases + 4 * i;
        uint32_t word = 0;
        while (word < 3 && phrase[1 + word] && place + word < line.end_word &&
               distinct[sequence[place + word]].code == phrase[1 + word])
          ++word;
        if (word == 3 || !phrase[1 + word]) families |= 1u << phrase[0];
      }
    }
    for (int family = 0; family < 3; ++family) out[column::javascript_lines + family] += families >> family & 1;
  }

  void measure_paragraphs() {
    spans.clear();
    for (const Line &line : lines) {
      if (line.begins_paragraph) spans.push_back({line.start, line.end});
      spans.back().end = line.end;
    }
    out[column::paragraphs] = spans.size();
    for (const Span &span : spans)
      out[column::paragraph_characters] += count_code_points(text + span.start, text + span.end);
    count_repeated(column::duplicate_paragraphs, column::duplicate_paragraph_characters);
  }

  // Counts the spans equal to an earlier one, and their characters.
  void count_repeated(int how_many, int their_characters) {
    table.empty(spans.size());
    firsts.clear();
    for (uint32_t i = 0; i < spans.size(); ++i) {
      const Span span = spans[i];
      uint64_t bytes = span.end - span.start;
      bool is_new;
      table.number_of(hash_bytes(text + span.start, bytes), is_new, [&](uint32_t number) {
        const Span known = spans[firsts[number]];
        return known.end - known.start == bytes && !memcmp(text + known.start, text + span.start, bytes);
      });
      if (is_new) {
        firsts.push_back(i);
      } else {
        ++out[how_many];
        out[their_characters] += count_code_points(text + span.start, text + span.end);
      }
    }
  }
};

}  // namespace

extern "C" {

// The columns of `measure_signals`.
const char *signal_names() {
#define NAME(name) #name ","
  return SIGNALS(NAME);
}

// Text i is content[offsets[i], offsets[i + 1]); row i of `out` gets its signals. Returns 0, or -1 for lack of memory,
// or the number of the first text, from 1, that has 4 GB or more.
int64_t measure_signals(const uint8_t *content, const int64_t *offsets, int64_t num_texts,  //
                        const uint16_t *class_index, const uint8_t *class_blocks, const uint8_t *white_leads,
                        const uint8_t *words, int64_t num_words, int64_t num_stop_words,  //
                        const int64_t *phrases, int64_t num_phrases, int64_t *out) try {
  Classes classes(class_index, class_blocks, white_leads);
  Vocabulary vocabulary(words, num_words, num_stop_words, phrases, num_phrases);
  Measurer measurer(classes, vocabulary, content + offsets[num_texts]);
  for (int64_t i = 0; i < num_texts; ++i) {
    uint64_t bytes = offsets[i + 1] - offsets[i];
    if (bytes >= uint64_t(1) << 32) return i + 1;
    measurer.measure(content + offsets[i], bytes, out + i * column::COUNT);
  }
  return 0;
} catch (const std::bad_alloc &) {
  return -1;
}
}
