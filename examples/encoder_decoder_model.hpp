// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// An encoder and a decoder as in the GQA paper (Ainslie et al. 2023, arXiv 2305.13245): multi-head
// attention in the encoder, grouped-query attention in the decoder's self- and cross-attention. Its
// weights are set by hand, so that one can follow what each head looks for. It does what it is told
// with a word: copy it or reverse it, in lower or in upper case,
//
//   encoder reads    ^ w o r d $            at any position, say from 17 on
//   decoder reads    reverse UPPER D R O W    and writes, one token late,
//                            D R O W .        where . is the end
//
// How: a token is found by its distance from an end of the word. Its first letter is 1 from ^, its
// last is 1 from $, so whoever writes letter p of the copy looks for the token at distance p from
// ^, and of the reversed word at distance p from $. Attention finds a number p among numbers d with
//
//   score = 2 p d - d²  =  p² - (d - p)²,        a parabola in d with its top at d = p
//
// a product of the query (2p, -1) and the key (d, d²); p² is the same for all keys, so the softmax
// doesn't see it. Multiplied by 32, it leaves e^-32 to the next best token. All scores are whole
// numbers below 2^24, which floats hold exactly.
//
//   encoder   attention     every token finds ^ and $, and with them its distances from both
//             feed-forward  squares the distances
//   decoder   attention     finds the commands among what has been read and written
//             cross         finds the letter to write; keys and values of the word are made once
//
// What each head does is in encoder_decoder_model.cpp: encode() and decode() first, then set_…().
#pragma once

#include <gqa/gqa.hpp>
#include <string>
#include <string_view>

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

  WordModel();

  /// The encoder's output for a word of letters a … z, [letters + 2, EncoderStream::size]. The ^
  /// before it stands at position `first`. Throws std::invalid_argument for other characters.
  Matrix encode(std::string_view word, Index first = 0) const;

  /// What the decoder writes, token by token, until it says that it has finished.
  std::string decode(const Matrix& memory, Task task) const;

  /// What the right answer is.
  static std::string expected(std::string word, Task task);

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
  static Matrix embed_word(std::string_view word, Index first);
  static Matrix embed_command(Index command);
  static Matrix embed_letter();
  void set_encoder_attention();
  void set_feed_forward();
  void set_self_attention();
  void set_cross_attention();
  void set_output();

  Matrix up_;                // [2 * (max_letters + 1), EncoderStream::size]
  Eigen::VectorXf up_bias_;  // [2 * (max_letters + 1)]
  Matrix down_;              // [EncoderStream::size, 2 * (max_letters + 1)]
  Matrix output_;            // [2 * letters + 1, DecoderStream::size]
};

}  // namespace gqa::examples
