// How one kind of setting is read from a Value and written back to one.
//
// A codec is a type with `read(const Value&) -> expected<T, Complaint>` and `write(const T&) ->
// Value`; a field is a key, a member, and a codec (config_fields.cc lists those of each spec).
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <concepts>
#include <expected>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "control/config_fields.h"

namespace dst::control::codec {

template <typename T>
using Read = std::expected<T, Complaint>;

[[nodiscard]] inline std::unexpected<Complaint> complain(std::string text, unsigned line = 0) {
    return std::unexpected(Complaint{std::move(text), line});
}
[[nodiscard]] inline std::unexpected<Complaint> wrong_type(const Value& value,
                                                           std::string_view wanted) {
    return complain(fmt::format("{} stands here; write {}", value.type_name(), wanted), value.line);
}
/// An outcome of the text parsers as a complaint about `value`.
template <typename T>
[[nodiscard]] Read<T> judged(Outcome<T> outcome, const Value& value) {
    if (!outcome) return complain(std::move(outcome).error().text, value.line);
    return *std::move(outcome);
}

struct Text {
    static Read<std::string> read(const Value& value);
    static Value write(const std::string& text) { return Value(text); }
};
/// Text that may not be empty.
struct Path {
    static Read<std::string> read(const Value& value);
    static Value write(const std::string& text) { return Value(text); }
};
struct Name {
    static Read<std::string> read(const Value& value);
    static Value write(const std::string& text) { return Value(text); }
};
struct Flag {
    static Read<bool> read(const Value& value);
    static Value write(bool flag) { return Value(flag); }
};
struct Endpoint {
    static Read<io::Endpoint> read(const Value& value);
    static Value write(const io::Endpoint& endpoint) { return Value(io::to_string(endpoint)); }
};
struct Listen {
    static Read<std::vector<io::Endpoint>> read(const Value& value);
    static Value write(const std::vector<io::Endpoint>& endpoints);
};
/// More than zero; an integer counts bytes.
struct Size {
    static Read<ByteCount> read(const Value& value);
    static Value write(ByteCount size) { return Value(to_string(size)); }
};
/// What the daemon may use: enough for one request of the largest kind.
struct MemoryLimit {
    static Read<ByteCount> read(const Value& value);
    static Value write(ByteCount size) { return Value(to_string(size)); }
    static constexpr ByteCount kMemoryMin = ByteCount(32 << 20);
};
/// A size in whole sectors; an integer counts sectors, as in the tree.
struct SectorSize {
    static Read<ByteCount> read(const Value& value);
    static Value write(ByteCount size) { return Value(to_string(size)); }
};
struct Period {
    static Read<Duration> read(const Value& value);
    static Value write(Duration duration) { return Value(to_string(duration)); }
};
/// As Period; an integer counts milliseconds, as in the tree.
struct Milliseconds {
    static Read<Duration> read(const Value& value);
    static Value write(Duration duration) { return Value(to_string(duration)); }
};
/// A period, or "forever".
struct Patience {
    static Read<std::optional<Duration>> read(const Value& value);
    static Value write(const std::optional<Duration>& patience);
};
struct Device {
    static Read<DeviceSpec> read(const Value& value);
    static Value write(const DeviceSpec& device) { return Value(to_string(device)); }
};
struct Nodes {
    static Read<std::vector<NodeSpec>> read(const Value& value);
    static Value write(const std::vector<NodeSpec>& nodes);
};
struct Access {
    static Read<std::vector<AccessRule>> read(const Value& value);
    static Value write(const std::vector<AccessRule>& rules);
};
struct Options {
    using Pairs = std::vector<std::pair<std::string, std::string>>;
    static Read<Pairs> read(const Value& value);
    static Value write(const Pairs& options);
};

/// An integer from `least` to `most`.
template <unsigned least, unsigned most>
struct Count {
    static Read<unsigned> read(const Value& value) {
        const auto* number = value.as<std::int64_t>();
        if (number == nullptr) return wrong_type(value, "an integer without quotes");
        if (*number < least || *number > most) {
            return complain(
                fmt::format("{} is out of range; choose {} to {}", *number, least, most));
        }
        return static_cast<unsigned>(*number);
    }
    static Value write(unsigned number) { return Value(std::int64_t{number}); }
};

template <typename Enum>
struct EnumName {
    std::string_view text;
    Enum value;
};
/// The words of an enumeration, as people write them.
template <typename Enum>
inline constexpr auto kEnumNames = 0;
template <>
inline constexpr auto kEnumNames<io::CacheMode> = std::to_array<EnumName<io::CacheMode>>(
    {{"direct", io::CacheMode::direct}, {"buffered", io::CacheMode::buffered}});
template <>
inline constexpr auto kEnumNames<AccessMode> = std::to_array<EnumName<AccessMode>>(
    {{"rw", AccessMode::read_write}, {"ro", AccessMode::read_only}, {"none", AccessMode::none}});
template <>
inline constexpr auto kEnumNames<InitMode> =
    std::to_array<EnumName<InitMode>>({{"zero", InitMode::zero},
                                       {"adopt", InitMode::adopt},
                                       {"assume-clean", InitMode::assume_clean}});
template <>
inline constexpr auto kEnumNames<Quorum> =
    std::to_array<EnumName<Quorum>>({{"none", Quorum::none}, {"majority", Quorum::majority}});
template <>
inline constexpr auto kEnumNames<ReadPolicy> =
    std::to_array<EnumName<ReadPolicy>>({{"nearest", ReadPolicy::nearest},
                                         {"least-busy", ReadPolicy::least_busy},
                                         {"local-first", ReadPolicy::local_first}});
template <>
inline constexpr auto kEnumNames<MetadataPlace> = std::to_array<EnumName<MetadataPlace>>(
    {{"none", MetadataPlace::none}, {"nodes", MetadataPlace::on_nodes}});

template <typename Enum>
struct OneOf {
    static Read<Enum> read(const Value& value) {
        std::string words;
        for (const auto& name : kEnumNames<Enum>) {
            words += fmt::format("{}\"{}\"", words.empty() ? "" : ", ", name.text);
        }
        const auto* text = value.as<std::string>();
        if (text == nullptr) return wrong_type(value, "one of " + words);
        for (const auto& name : kEnumNames<Enum>) {
            if (name.text == *text) return name.value;
        }
        return complain(
            fmt::format("{} is not known here; write one of {}", in_quotes(*text), words));
    }
    static Value write(Enum value) {
        for (const auto& name : kEnumNames<Enum>) {
            if (name.value == value) return Value(std::string(name.text));
        }
        return Value();
    }
};

/// A setting that may be unset.
template <typename Codec>
struct Maybe {
    static auto read(const Value& value) { return Codec::read(value); }
    template <typename T>
    static Value write(const std::optional<T>& value) {
        return Codec::write(*value);
    }
};

template <auto>
struct MemberOf;
template <typename Spec, typename T, T Spec::* member>
struct MemberOf<member> {
    using Owner = Spec;
};

enum class Need : bool { optional, required };

/// The field of one member: read by its codec, written if it is required or has not its default.
template <auto member, typename Codec, typename Spec = typename MemberOf<member>::Owner>
constexpr Field<Spec> field(std::string_view key, Need need = Need::optional) {
    return {key,
            [](Spec& into, const Value& value) -> Judged {
                auto read = Codec::read(value);
                if (!read) return std::unexpected(std::move(read).error());
                into.*member = *std::move(read);
                return {};
            },
            need == Need::required
                ? +[](const Spec& from) -> std::optional<Value> {
                      return Codec::write(from.*member);
                  }
                : +[](const Spec& from) -> std::optional<Value> {
                      static const Spec kDefaults;
                      if (from.*member == kDefaults.*member) return std::nullopt;
                      return Codec::write(from.*member);
                  },
            need == Need::required};
}

}  // namespace dst::control::codec
