#include "sim/scenario/fields.h"

#include <array>
#include <limits>

#include "control/config_codecs.h"
#include "control/config_reader.h"

namespace dst::control::codec {

template <>
inline constexpr auto kEnumNames<sim::ClientKind> =
    std::to_array<EnumName<sim::ClientKind>>({{"node", sim::ClientKind::node},
                                              {"plain", sim::ClientKind::plain},
                                              {"inside", sim::ClientKind::inside}});
template <>
inline constexpr auto kEnumNames<sim::Overlap> = std::to_array<EnumName<sim::Overlap>>(
    {{"none", sim::Overlap::none}, {"reads", sim::Overlap::reads}, {"all", sim::Overlap::all}});

}  // namespace dst::control::codec

namespace dst::sim {
namespace {

using namespace control::codec;
using control::Complaint;
using control::Field;
using control::Judged;
using control::Member;
using control::Value;

using Number = Count<0, std::numeric_limits<int>::max()>;
using Positive = Count<1, std::numeric_limits<int>::max()>;

/// A table within a table.
template <typename Spec, std::span<const Field<Spec>> (*fields)()>
struct Table {
    static Read<Spec> read(const Value& value) {
        const auto* const members = value.as<Value::Table>();
        if (members == nullptr) return wrong_type(value, "a table");
        Spec spec;
        for (const Member& member : *members) {
            const auto known = std::ranges::find(fields(), member.key, &Field<Spec>::key);
            if (known == fields().end())
                return complain(fmt::format("unknown key {}", control::in_quotes(member.key)),
                                member.value.line);
            if (auto read = known->read(spec, member.value); !read)
                return complain(fmt::format("{}: {}", member.key, read.error().text),
                                read.error().line == 0 ? member.value.line : read.error().line);
        }
        return spec;
    }
    static Value write(const Spec& spec) { return Value(control::write_fields(fields(), spec)); }
};

template <typename Codec>
struct ListOf {
    static auto read(const Value& value) {
        using Item = typename decltype(Codec::read(value))::value_type;
        Read<std::vector<Item>> items;
        const auto* const array = value.as<Value::Array>();
        if (array == nullptr) {
            items = wrong_type(value, "an array");
            return items;
        }
        for (const Value& each : *array) {
            auto item = Codec::read(each);
            if (!item) {
                items = std::unexpected(std::move(item).error());
                return items;
            }
            items->push_back(*std::move(item));
        }
        return items;
    }
    template <typename Item>
    static Value write(const std::vector<Item>& items) {
        Value::Array array;
        for (const Item& item : items) array.push_back(Codec::write(item));
        return Value(std::move(array));
    }
};

struct FaultName {
    static Read<Fault> read(const Value& value) {
        const auto* const text = value.as<std::string>();
        if (text == nullptr) return wrong_type(value, "the name of a fault");
        if (const auto fault = parse_fault(*text)) return *fault;
        std::string known;
        for (const Fault each : all_faults()) known += fmt::format(", {}", to_string(each));
        return complain(
            fmt::format("{} is no fault; known are {}", control::in_quotes(*text), known.substr(2)),
            value.line);
    }
    static Value write(Fault fault) { return Value(std::string(to_string(fault))); }
};

struct DaemonConfig {
    static Read<control::Config> read(const Value& value) {
        const auto* const text = value.as<std::string>();
        if (text == nullptr) return wrong_type(value, "a configuration, between '''");
        return judged(control::parse_config(*text, "config"), value);
    }
    static Value write(const control::Config& config) { return Value(control::to_toml(config)); }
};

std::span<const Field<DiskSpec>> disk_fields() {
    static constexpr std::array kFields = {
        field<&DiskSpec::path, Path>("path", Need::required),
        field<&DiskSpec::size, SectorSize>("size"),
        field<&DiskSpec::block, Count<512, 4096>>("block"),
        field<&DiskSpec::is_device, Flag>("device"),
        field<&DiskSpec::can_discard, Flag>("discard"),
        field<&DiskSpec::has_fast_zero, Flag>("fast_zero"),
        field<&DiskSpec::is_used, Flag>("used"),
        field<&DiskSpec::latency, Period>("latency"),
    };
    return kFields;
}

std::span<const Field<NetworkSpec>> network_fields() {
    static constexpr std::array kFields = {
        field<&NetworkSpec::latency, Period>("latency"),
        field<&NetworkSpec::jitter, Period>("jitter"),
        field<&NetworkSpec::send_buffer, Size>("send_buffer"),
        field<&NetworkSpec::receive_buffer, Size>("receive_buffer"),
    };
    return kFields;
}

std::span<const Field<MixSpec>> mix_fields() {
    static constexpr std::array kFields = {
        field<&MixSpec::read, Number>("read"),
        field<&MixSpec::write, Number>("write"),
        field<&MixSpec::write_zeroes, Number>("write_zeroes"),
        field<&MixSpec::trim, Number>("trim"),
        field<&MixSpec::flush, Number>("flush"),
        field<&MixSpec::block_status, Number>("block_status"),
    };
    return kFields;
}

std::span<const Field<PermitSpec>> permit_fields() {
    static constexpr std::array kFields = {
        field<&PermitSpec::faults, ListOf<FaultName>>("faults", Need::required),
        field<&PermitSpec::of, ListOf<Text>>("of", Need::required),
        field<&PermitSpec::most, Maybe<Positive>>("most"),
    };
    return kFields;
}

std::span<const Field<StormSpec>> storm_fields() {
    static constexpr std::array kFields = {
        field<&StormSpec::faults, Number>("faults"),
        field<&StormSpec::pause, Period>("pause"),
        field<&StormSpec::from_the_start, Flag>("from_the_start"),
        field<&StormSpec::permits, ListOf<Table<PermitSpec, permit_fields>>>("permit"),
    };
    return kFields;
}

std::span<const Field<AdministratorSpec>> administrator_fields() {
    static constexpr std::array kFields = {
        field<&AdministratorSpec::at, Text>("at"),
        field<&AdministratorSpec::commands, Number>("commands"),
        field<&AdministratorSpec::pause, Period>("pause"),
        field<&AdministratorSpec::spares, Nodes>("spares"),
    };
    return kFields;
}

}  // namespace

template <>
std::span<const Field<Scenario>> fields_of() {
    static constexpr std::array kFields = {
        field<&Scenario::about, Text>("about", Need::required),
        field<&Scenario::network, Table<NetworkSpec, network_fields>>("network"),
        field<&Scenario::storm, Table<StormSpec, storm_fields>>("storm"),
        field<&Scenario::administrator, Table<AdministratorSpec, administrator_fields>>(
            "administrator"),
        field<&Scenario::calm, Period>("calm"),
        field<&Scenario::ends_with_power_cut, Flag>("ends_with_power_cut"),
    };
    return kFields;
}

template <>
std::span<const Field<HostSpec>> fields_of() {
    static constexpr std::array kFields = {
        field<&HostSpec::name, Name>("name", Need::required),
        field<&HostSpec::disks, ListOf<Table<DiskSpec, disk_fields>>>("disks"),
    };
    return kFields;
}

template <>
std::span<const Field<DaemonSpec>> fields_of() {
    static constexpr std::array kFields = {
        field<&DaemonSpec::name, Name>("name", Need::required),
        field<&DaemonSpec::host, Name>("host", Need::required),
        field<&DaemonSpec::is_plain, Flag>("plain"),
        field<&DaemonSpec::starts_later, Flag>("starts_later"),
        field<&DaemonSpec::config, DaemonConfig>("config"),
    };
    return kFields;
}

template <>
std::span<const Field<ClientSpec>> fields_of() {
    static constexpr std::array kFields = {
        field<&ClientSpec::name, Name>("name", Need::required),
        field<&ClientSpec::kind, OneOf<ClientKind>>("kind"),
        field<&ClientSpec::host, Name>("host"),
        field<&ClientSpec::at, Text>("at", Need::required),
        field<&ClientSpec::part, Positive>("part"),
        field<&ClientSpec::parts, Positive>("parts"),
        field<&ClientSpec::requests, Number>("requests"),
        field<&ClientSpec::depth, Count<1, 1024>>("depth"),
        field<&ClientSpec::shortest, SectorSize>("shortest"),
        field<&ClientSpec::longest, SectorSize>("longest"),
        field<&ClientSpec::mix, Table<MixSpec, mix_fields>>("mix"),
        field<&ClientSpec::fua_percent, Count<0, 100>>("fua_percent"),
        field<&ClientSpec::burst, Number>("burst"),
        field<&ClientSpec::rest, Period>("rest"),
        field<&ClientSpec::overlap, OneOf<Overlap>>("overlap"),
        field<&ClientSpec::replay_window, Size>("replay_window"),
        field<&ClientSpec::hold, Patience>("hold"),
        field<&ClientSpec::checksums, Flag>("checksums"),
        field<&ClientSpec::structured_replies, Flag>("structured_replies"),
    };
    return kFields;
}

template <>
std::span<const Field<StepSpec>> fields_of() {
    static constexpr std::array kFields = {
        field<&StepSpec::at, Maybe<Period>>("at"),
        field<&StepSpec::after, Maybe<Number>>("after"),
        field<&StepSpec::what, Text>("do", Need::required),
    };
    return kFields;
}

}  // namespace dst::sim
