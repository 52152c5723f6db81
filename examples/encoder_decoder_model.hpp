// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// An encoder and a decoder as in the GQA paper (Ainslie et al. 2023, arXiv 2305.13245): multi-head
// attention in the encoder, grouped-query attention in the decoder's self- and cross-attention. Its
// weights are set by hand, so that one can follow what each head looks for. It does what it is told
// with a word: copy it or reverse it, in lower or in upper case,
//
//   encoder reads    ^ w o r d $            at any position, say from 17 on
//   decoder reads    reverse UPPER D R O W    and writes, one token behind,
//                            D R O W .        where . is the end
//
// How: a token is found by its distance from an end of the word. Its first letter is 1 from ^, its
// last is 1 from $, so whoever writes letter p of the copy looks for the token at distance p from
// ^, and of the reversed word at distance p from $. Attention finds a number p among numbers d with
//
//   score = 2 p d - d²  =  p² - (d - p)²,        a parabola in d with its top at d = p
//
// a product of the query (2p, -1) and the key (d, d²); p² is the same for all keys, so the softmax
// doesn't see it. Multiplied by `sharp`, it leaves e^-32 to the next best token. All scores are
// whole numbers below 2^24, which floats hold exactly.
//
// Read encode() and decode() first, then the set_…() that say what each head does.
#pragma once

#include <gqa/gqa.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace gqa::examples {

/// What the decoder is told.
struct Task {
  bool reverse = false;
  bool upper = false;
};

class WordModel {
 public:
  using Attention = MultiHeadAttention<float>;
  using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

  static constexpr Index letters = 26;
  static constexpr Index max_letters = 64;  ///< of a word

  WordModel() {
    set_encoder_attention();
    set_feed_forward();
    set_self_attention();
    set_cross_attention();
    set_output();
  }

  /// The encoder's output for a word of letters a … z, [letters + 2, EncoderStream::size]. The ^
  /// before it stands at position `first`. Throws std::invalid_argument for other characters.
  Matrix encode(std::string_view word, Index first = 0) const {
    Matrix x = embed_word(word, first);
    Matrix y(x.rows(), x.cols());
    encoder_attention.forward(x, y, nullptr, nullptr, NoMask{});  // everyone sees everyone
    x += y;
    const Matrix hidden = ((x * up.transpose()).rowwise() + up_bias.transpose()).cwiseMax(0.0f);
    x += hidden * down.transpose();
    return x;
  }

  /// What the decoder writes, token by token, until it says that it has finished.
  std::string decode(const Matrix& memory, Task task) const {
    Workspace scratch;
    KvCache<float> read({.batch = 1, .capacity = memory.rows(), .heads = cross_attention.heads()});
    cross_attention.project_memory(memory, read, &scratch);  // keys and values of the word, once

    KvCache<float> written(
        {.batch = 1, .capacity = max_letters + 3, .heads = self_attention.heads()});
    std::string text;
    Matrix x, y(1, DecoderStream::size);
    for (Index position = 0; position < written.capacity(); ++position) {
      x = position == 0 ? embed_command(task.reverse ? DecoderStream::reverse : DecoderStream::copy)
          : position == 1 ? embed_command(task.upper ? DecoderStream::upper : DecoderStream::lower)
                          : embed_letter();
      x(0, DecoderStream::position) = static_cast<float>(position);
      self_attention.forward(x, y, &written, &scratch);
      x += y;
      cross_attention.cross(x, y, read, &scratch);
      x += y;
      if (position == 0) continue;  // the other command is still to come
      Index best = 0;
      (output * x.transpose()).col(0).maxCoeff(&best);
      if (best == end_token) break;
      text += static_cast<char>(best < letters ? 'a' + best : 'A' + best - letters);
    }
    return text;
  }

  /// What the right answer is.
  static std::string expected(std::string word, Task task) {
    if (task.reverse) word = std::string(word.rbegin(), word.rend());
    if (task.upper) {
      for (char& c : word) c = static_cast<char>(c - 'a' + 'A');
    }
    return word;
  }

  // The residual streams: what each number of a token's row means. Embeddings set the first few,
  // attention and feed-forward add the others.
  struct EncoderStream {
    enum : Index {
      letter = 0,            // a … z, one of them 1
      start_mark = letters,  // 1 for ^
      end_mark,              // 1 for $
      one,                   // 1, for queries that are always the same
      from_start,            // its position; attention's head 0 takes off that of ^
      from_end,              // minus its position; head 1 takes off that of $
      from_start_squared,    // feed-forward
      from_end_squared,
      size
    };
  };
  struct DecoderStream {
    enum : Index {
      is_direction,  // 1 for the commands copy and reverse
      is_case,       // 1 for the commands lower and upper
      copy,          // which command this token is, one of them 1
      reverse,
      lower,
      upper,
      one,
      position,
      told_copy,  // what self-attention found the commands to be
      told_reverse,
      told_lower,
      told_upper,
      letter,                        // a … z: what cross-attention has read
      end_votes = letter + letters,  // how many heads look at ^ or $
      size
    };
  };

  // Public, for the test that turns the sign of each weight and expects wrong answers.
  Attention encoder_attention{{.hidden_size = EncoderStream::size,
                               .num_heads = 2,
                               .num_kv_heads = 2,  // MHA: each head has keys and values of its own
                               .head_dim = 1,
                               .value_dim = 1,
                               .scale = 1.0}};
  Attention self_attention{{.hidden_size = DecoderStream::size,
                            .num_heads = 4,
                            .num_kv_heads = 2,  // GQA: heads 0 and 1 share keys, and so do 2 and 3
                            .head_dim = 2,
                            .value_dim = 2,
                            .scale = 1.0}};
  Attention cross_attention{{.hidden_size = DecoderStream::size,
                             .num_heads = 4,
                             .num_kv_heads = 2,
                             .head_dim = 5,
                             .value_dim = letters / 2 + 1,
                             .kv_hidden_size = EncoderStream::size,
                             .scale = 1.0}};

 private:
  static constexpr float sharp = 32;
  /// Of a score: more than any parabola can outweigh, 2 * sharp * (max_letters + 1)² = 270 400.
  static constexpr float park = 1 << 19;
  static constexpr Index end_token = 2 * letters;  // of the output: a … z, A … Z, end
  static constexpr Index largest_distance = max_letters + 1;

  // --- encoder ---

  static Matrix embed_word(std::string_view word, Index first) {
    const Index n = std::ssize(word);
    require(n <= max_letters, "a word has at most ", max_letters, " letters, got ", n);
    using Stream = EncoderStream;
    Matrix x = Matrix::Zero(n + 2, Stream::size);
    x(0, Stream::start_mark) = 1;
    x(n + 1, Stream::end_mark) = 1;
    for (Index i = 0; i < n; ++i) {
      const char c = word[static_cast<std::size_t>(i)];
      require(c >= 'a' && c <= 'z', "a word is made of letters a … z, got character ", int{c});
      x(i + 1, Stream::letter + c - 'a') = 1;
    }
    x.col(Stream::one).setOnes();
    x.col(Stream::from_start)
        .setLinSpaced(static_cast<float>(first), static_cast<float>(first + n + 1));
    x.col(Stream::from_end) = -x.col(Stream::from_start);
    return x;
  }

  /// Head 0 looks for ^ and head 1 for $; both bring home where it stands, and it is taken off.
  void set_encoder_attention() {
    using Stream = EncoderStream;
    for (const Index head : {0, 1}) {
      const Index distance = head == 0 ? Stream::from_start : Stream::from_end;
      encoder_attention.wq()(head, Stream::one) = sharp;
      encoder_attention.wk()(head, head == 0 ? Stream::start_mark : Stream::end_mark) = 1;
      encoder_attention.wv()(head, distance) = 1;
      encoder_attention.wo()(distance, head) = -1;
    }
  }

  /// Squares of both distances, which are whole: d² = relu(d) + 2 Σ relu(d - m) over m = 1, 2, …
  void set_feed_forward() {
    using Stream = EncoderStream;
    up = Matrix::Zero(2 * largest_distance, Stream::size);
    down = Matrix::Zero(Stream::size, 2 * largest_distance);
    up_bias.resize(2 * largest_distance);
    for (Index m = 0; m < largest_distance; ++m) {
      const Index start = 2 * m, end = 2 * m + 1;  // the two hidden units for m
      up(start, Stream::from_start) = 1;
      up(end, Stream::from_end) = 1;
      up_bias(start) = up_bias(end) = static_cast<float>(-m);
      down(Stream::from_start_squared, start) = m == 0 ? 1 : 2;
      down(Stream::from_end_squared, end) = m == 0 ? 1 : 2;
    }
  }

  // --- decoder ---

  static Matrix embed_command(Index command) {
    using Stream = DecoderStream;
    Matrix x = embed_letter();
    x(0, command) = 1;
    x(0, command == Stream::copy || command == Stream::reverse ? Stream::is_direction
                                                               : Stream::is_case) = 1;
    return x;
  }
  /// Which letter was written last doesn't matter to this task, only that it was.
  static Matrix embed_letter() {
    Matrix x = Matrix::Zero(1, DecoderStream::size);
    x(0, DecoderStream::one) = 1;
    return x;
  }

  /// The two query heads of a group ask different questions of the same keys: which direction?
  /// which case? The two KV heads carry the answers: the first "copy" and "lower", the second
  /// "reverse" and "upper".
  void set_self_attention() {
    using Stream = DecoderStream;
    Attention& a = self_attention;
    for (const Index kv_head : {0, 1}) {
      const Index row = 2 * kv_head;  // head_dim and value_dim are 2
      a.wk()(row + 0, Stream::is_direction) = 1;
      a.wk()(row + 1, Stream::is_case) = 1;
      a.wv()(row + 0, kv_head == 0 ? Stream::copy : Stream::reverse) = 1;
      a.wv()(row + 1, kv_head == 0 ? Stream::lower : Stream::upper) = 1;

      const Index direction = 2 * kv_head, letter_case = direction + 1;  // query heads of the group
      a.wq()(2 * direction + 0, Stream::one) = sharp;
      a.wq()(2 * letter_case + 1, Stream::one) = sharp;
      a.wo()(kv_head == 0 ? Stream::told_copy : Stream::told_reverse, 2 * direction + 0) = 1;
      a.wo()(kv_head == 0 ? Stream::told_lower : Stream::told_upper, 2 * letter_case + 1) = 1;
    }
  }

  /// The first query head of a group looks for the token at distance p from ^, the second for the
  /// one at distance p from $. The one that wasn't asked is parked at ^: a softmax must look
  /// somewhere. The two KV heads have the same keys; the first carries the letters a … m, the
  /// second n … z.
  ///
  ///   key                 (d,     d²,     r,     r²,     ^)        d from ^, r from $
  ///   query that copies   (2p,    -1,     0,      0,     park if told to reverse)
  ///   query that reverses (0,      0,     2p,    -1,     park if told to copy)
  ///
  /// p is the decoder's own position: 1 when it is about to write the first letter.
  void set_cross_attention() {
    using Memory = EncoderStream;
    using Stream = DecoderStream;
    Attention& a = cross_attention;
    const Index half = letters / 2, head_dim = a.config().head_dim,
                value_dim = a.config().value_dim;
    for (const Index kv_head : {0, 1}) {
      const Index k = kv_head * head_dim, v = kv_head * value_dim;
      a.wk()(k + 0, Memory::from_start) = 1;
      a.wk()(k + 1, Memory::from_start_squared) = 1;
      a.wk()(k + 2, Memory::from_end) = 1;
      a.wk()(k + 3, Memory::from_end_squared) = 1;
      a.wk()(k + 4, Memory::start_mark) = 1;
      for (Index i = 0; i < half; ++i) a.wv()(v + i, Memory::letter + kv_head * half + i) = 1;
      a.wv()(v + half, Memory::start_mark) = 1;
      a.wv()(v + half, Memory::end_mark) = 1;

      for (const Index question : {0, 1}) {  // copy, reverse
        const Index head = 2 * kv_head + question;
        const Index q = head * head_dim, out = head * value_dim;
        a.wq()(q + 2 * question + 0, Stream::position) = 2 * sharp;
        a.wq()(q + 2 * question + 1, Stream::one) = -sharp;
        a.wq()(q + 4, question == 0 ? Stream::told_reverse : Stream::told_copy) = park;
        for (Index i = 0; i < half; ++i) a.wo()(Stream::letter + kv_head * half + i, out + i) = 1;
        a.wo()(Stream::end_votes, out + half) = 1;
      }
    }
  }

  /// The letter that was read counts 1, the right case 3: together 4, more than the 2 votes for the
  /// end that the parked heads cast all the time. When nothing is left to read, all heads look at ^
  /// or $, and the end's 4 votes are more than the 3 of the right case alone.
  void set_output() {
    using Stream = DecoderStream;
    output = Matrix::Zero(2 * letters + 1, Stream::size);
    for (Index i = 0; i < letters; ++i) {
      for (const Index upper : {0, 1}) {
        output(upper * letters + i, Stream::letter + i) = 1;
        output(upper * letters + i, upper ? Stream::told_upper : Stream::told_lower) = 3;
      }
    }
    output(end_token, Stream::end_votes) = 1;
  }

  Matrix up;                // [2 * largest_distance, EncoderStream::size]
  Eigen::VectorXf up_bias;  // [2 * largest_distance]
  Matrix down;              // [EncoderStream::size, 2 * largest_distance]
  Matrix output;            // [2 * letters + 1, DecoderStream::size]
};

}  // namespace gqa::examples
