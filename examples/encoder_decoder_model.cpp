// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The gqa authors
//
// What each weight of the model is, and why. Read encoder_decoder_model.hpp first.
#include "encoder_decoder_model.hpp"

namespace gqa::examples {
namespace {

/// Of what a softmax should choose by: e^-32 is nothing beside 1.
constexpr float sharp = 32;
/// Of a head that has nothing to do: more than a parabola can outweigh, which is 2 sharp p² for the
/// largest p, 270 400.
constexpr float park = 1 << 19;
constexpr Index end_token = 2 * WordModel::letters;  // of the output: a … z, A … Z, end
constexpr Index largest_distance = WordModel::max_letters + 1;

}  // namespace

WordModel::WordModel() {
  set_encoder_attention();
  set_feed_forward();
  set_self_attention();
  set_cross_attention();
  set_output();
}

WordModel::Matrix WordModel::encode(std::string_view word, Index first) const {
  Matrix x = embed_word(word, first);
  Matrix y(x.rows(), x.cols());
  encoder_attention.forward(x, y, nullptr, nullptr, NoMask{});  // everyone sees everyone
  x += y;
  const Matrix hidden = ((x * up_.transpose()).rowwise() + up_bias_.transpose()).cwiseMax(0.0f);
  x += hidden * down_.transpose();
  return x;
}

std::string WordModel::decode(const Matrix& memory, Task task) const {
  Workspace scratch;
  KvCache<float> read({.batch = 1, .capacity = memory.rows(), .heads = cross_attention.heads()});
  cross_attention.project_memory(memory, read, &scratch);  // keys and values of the word, once

  KvCache<float> written(
      {.batch = 1, .capacity = max_letters + 3, .heads = self_attention.heads()});
  std::string text;
  Matrix x, y(1, DecoderStream::size);
  for (Index position = 0; position < written.capacity(); ++position) {
    x = position == 0   ? embed_command(task.reverse ? DecoderStream::reverse : DecoderStream::copy)
        : position == 1 ? embed_command(task.upper ? DecoderStream::upper : DecoderStream::lower)
                        : embed_letter();
    x(0, DecoderStream::position) = static_cast<float>(position);
    self_attention.forward(x, y, &written, &scratch);
    x += y;
    cross_attention.cross(x, y, read, &scratch);
    x += y;
    if (position == 0) continue;  // the other command is still to come
    Index best = 0;
    (output_ * x.transpose()).col(0).maxCoeff(&best);
    if (best == end_token) break;
    text += static_cast<char>(best < letters ? 'a' + best : 'A' + best - letters);
  }
  return text;
}

std::string WordModel::expected(std::string word, Task task) {
  if (task.reverse) word = std::string(word.rbegin(), word.rend());
  if (task.upper) {
    for (char& c : word) c = static_cast<char>(c - 'a' + 'A');
  }
  return word;
}

// --- encoder ---

WordModel::Matrix WordModel::embed_word(std::string_view word, Index first) {
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
void WordModel::set_encoder_attention() {
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
void WordModel::set_feed_forward() {
  using Stream = EncoderStream;
  up_ = Matrix::Zero(2 * largest_distance, Stream::size);
  down_ = Matrix::Zero(Stream::size, 2 * largest_distance);
  up_bias_.resize(2 * largest_distance);
  for (Index m = 0; m < largest_distance; ++m) {
    const Index start = 2 * m, end = 2 * m + 1;  // the two hidden units for m
    up_(start, Stream::from_start) = 1;
    up_(end, Stream::from_end) = 1;
    up_bias_(start) = up_bias_(end) = static_cast<float>(-m);
    down_(Stream::from_start_squared, start) = m == 0 ? 1 : 2;
    down_(Stream::from_end_squared, end) = m == 0 ? 1 : 2;
  }
}

// --- decoder ---

WordModel::Matrix WordModel::embed_command(Index command) {
  using Stream = DecoderStream;
  Matrix x = embed_letter();
  x(0, command) = 1;
  x(0, command == Stream::copy || command == Stream::reverse ? Stream::is_direction
                                                             : Stream::is_case) = 1;
  return x;
}
/// Which letter was written last doesn't matter to this task, only that it was.
WordModel::Matrix WordModel::embed_letter() {
  Matrix x = Matrix::Zero(1, DecoderStream::size);
  x(0, DecoderStream::one) = 1;
  return x;
}

/// The two query heads of a group ask different questions of the same keys: which direction?
/// which case? The two KV heads carry the answers: the first "copy" and "lower", the second
/// "reverse" and "upper".
void WordModel::set_self_attention() {
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
void WordModel::set_cross_attention() {
  using Memory = EncoderStream;
  using Stream = DecoderStream;
  Attention& a = cross_attention;
  const Index half = letters / 2, head_dim = a.config().head_dim, value_dim = a.config().value_dim;
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
void WordModel::set_output() {
  using Stream = DecoderStream;
  output_ = Matrix::Zero(2 * letters + 1, Stream::size);
  for (Index i = 0; i < letters; ++i) {
    for (const Index upper : {0, 1}) {
      output_(upper * letters + i, Stream::letter + i) = 1;
      output_(upper * letters + i, upper ? Stream::told_upper : Stream::told_lower) = 3;
    }
  }
  output_(end_token, Stream::end_votes) = 1;
}

}  // namespace gqa::examples
