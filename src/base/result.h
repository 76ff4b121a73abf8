// Errors as values. `Error` is what the data path carries: small, trivial, made of what the caller
// decides by. `Problem` is what the control side carries: a sentence for a person (what, why, what
// to do). Bugs are CHECKs.
#pragma once

#include <cstdint>
#include <expected>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

namespace dst {

enum class ErrorCode : std::uint8_t {
    invalid,        // malformed or misaligned request
    out_of_range,   // beyond the end of the device
    not_permitted,  // read-only, or no access
    io_error,       // the medium failed
    no_space,       // the medium is full
    no_memory,      // a bound on memory was reached
    overflow,       // the answer does not fit (NBD_EOVERFLOW)
    unsupported,    // the device can't do this (or can't do it fast)
    shutting_down,  // whoever serves it is going away
    node_lost,      // the link or the process behind it is gone
    corrupt,        // a checksum or a format does not hold
    cancelled,      // the caller gave up
    timed_out,      // a limit on waiting was reached
    busy,           // in use
    not_found,      // no such thing
    exists,         // there is one already
    refused,        // the other side said no
};

/// Text of a code, as used in messages: "no space left".
[[nodiscard]] std::string_view to_string(ErrorCode code);

/// Small and trivial: what the caller decides by, and a static text for the log.
struct [[nodiscard]] Error {
    ErrorCode code = ErrorCode::io_error;
    /// Operation or problem, a string literal; never null.
    const char* what = "";

    friend bool operator==(const Error& a, const Error& b) { return a.code == b.code; }
};
static_assert(std::is_trivially_copyable_v<Error>);

/// A sentence for a person: what, why, what to do. One line.
struct [[nodiscard]] Problem {
    ErrorCode code = ErrorCode::invalid;
    std::string text;
};

struct [[nodiscard]] Done {};

template <typename T = void>
using Result = std::expected<T, Error>;

/// A result for people: control, configuration, start-up.
template <typename T = void>
using Outcome = std::expected<T, Problem>;

[[nodiscard]] inline std::unexpected<Error> fail(ErrorCode code, const char* what = "") {
    return std::unexpected(Error{code, what});
}
[[nodiscard]] inline std::unexpected<Problem> refuse(ErrorCode code, std::string text) {
    return std::unexpected(Problem{code, std::move(text)});
}
[[nodiscard]] inline std::unexpected<Problem> refuse(std::string text) {
    return refuse(ErrorCode::invalid, std::move(text));
}

#define DST_JOIN2(a, b) a##b
#define DST_JOIN(a, b) DST_JOIN2(a, b)

// `TRY(const auto x, expression);` and `CO_TRY(...)`: a statement that declares `x`, or returns the
// error.
#define DST_TRY_(ret, temporary, declaration, ...)         \
    auto&& temporary = (__VA_ARGS__);                      \
    if (!temporary.has_value()) [[unlikely]]               \
        ret std::unexpected(std::move(temporary).error()); \
    declaration = *std::move(temporary)
#define TRY(declaration, ...) DST_TRY_(return, DST_JOIN(try_, __LINE__), declaration, __VA_ARGS__)
#define CO_TRY(declaration, ...) \
    DST_TRY_(co_return, DST_JOIN(try_, __LINE__), declaration, __VA_ARGS__)

#define DST_TRY_VOID_(ret, temporary, ...)                     \
    do {                                                       \
        auto&& temporary = (__VA_ARGS__);                      \
        if (!temporary.has_value()) [[unlikely]]               \
            ret std::unexpected(std::move(temporary).error()); \
    } while (false)
#define TRY_VOID(...) DST_TRY_VOID_(return, DST_JOIN(try_, __LINE__), __VA_ARGS__)
#define CO_TRY_VOID(...) DST_TRY_VOID_(co_return, DST_JOIN(try_, __LINE__), __VA_ARGS__)

}  // namespace dst
