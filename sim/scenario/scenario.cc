#include "sim/scenario/scenario.h"

#include <fmt/format.h>

#include <algorithm>

#include "control/config_reader.h"
#include "sim/random.h"
#include "sim/scenario/fields.h"

namespace dst::sim {
namespace {

using control::Member;
using control::Value;

constexpr std::string_view kLists[] = {"host", "daemon", "client", "step", "draw"};
/// What a seed draws for a scenario must not depend on what it draws in the world.
constexpr std::uint64_t kDrawSalt = 0xd4a3;

// Drawing ----------------------------------------------------------------------------------------

struct Drawn {
    std::string key;
    Value value;
};

std::string text_of(const Value& value) {
    if (const auto* const text = value.as<std::string>()) return *text;
    if (const auto* const number = value.as<std::int64_t>()) return fmt::format("{}", *number);
    return {};
}

void replace_all(std::string& text, std::string_view from, std::string_view to) {
    for (std::size_t at = text.find(from); at != std::string::npos; at = text.find(from, at)) {
        text.replace(at, from.size(), to);
        at += to.size();
    }
}

/// Puts what was drawn in the place of each "$key"; a string that is nothing else becomes the value
/// itself, so a number may stand there, too.
void substitute(Value& value, const std::vector<Drawn>& drawn) {
    if (auto* const text = std::get_if<std::string>(&value.data)) {
        for (const Drawn& each : drawn) {
            const std::string name = "$" + each.key;
            if (*text == name) {
                value.data = each.value.data;
                return;
            }
            replace_all(*text, name, text_of(each.value));
        }
    } else if (auto* const items = std::get_if<Value::Array>(&value.data)) {
        for (Value& item : *items) substitute(item, drawn);
    } else if (auto* const members = std::get_if<Value::Table>(&value.data)) {
        for (Member& member : *members) substitute(member.value, drawn);
    }
}

Outcome<std::vector<Drawn>> draw(const Value& document, std::string_view file_name,
                                 std::uint64_t seed) {
    std::vector<Drawn> drawn;
    const Value* const table = document.find("draw");
    if (table == nullptr) return drawn;
    const auto* const members = table->as<Value::Table>();
    Random random(seed ^ kDrawSalt);
    for (const Member& member : members == nullptr ? Value::Table{} : *members) {
        const auto* const choices = member.value.as<Value::Array>();
        if (choices == nullptr || choices->empty())
            return refuse(fmt::format("{}draw: {} is no list to draw from",
                                      control::location(file_name, member.value.line), member.key));
        drawn.push_back({member.key, (*choices)[random.below(choices->size())]});
    }
    // Longer names first, so that none is taken for the begin of another.
    std::ranges::sort(drawn, [](const Drawn& a, const Drawn& b) {
        return a.key.size() != b.key.size() ? a.key.size() > b.key.size() : a.key < b.key;
    });
    return drawn;
}

// Reading ----------------------------------------------------------------------------------------

template <typename Spec>
Outcome<> read_list(std::vector<Spec>& into, std::string_view kind, const Value& document,
                    std::string_view file_name) {
    return control::for_each_table(document, kind, file_name, [&](const Value& table) -> Outcome<> {
        const std::string object = control::object_name(kind, table);
        if (table.as<Value::Table>() == nullptr)
            return refuse(
                fmt::format("{}{} is no table", control::location(file_name, table.line), object));
        TRY_VOID(control::read_fields(into.emplace_back(), fields_of<Spec>(), {}, table, object,
                                      file_name));
        return {};
    });
}

}  // namespace

bool AdministratorSpec::changes(std::string_view daemon, std::string_view storage) const {
    return at == fmt::format("{}/{}", daemon, storage);
}

const HostSpec* Scenario::find_host(std::string_view host) const {
    const auto found = std::ranges::find(hosts, host, &HostSpec::name);
    return found == hosts.end() ? nullptr : &*found;
}

const DaemonSpec* Scenario::find_daemon(std::string_view daemon) const {
    const auto found = std::ranges::find(daemons, daemon, &DaemonSpec::name);
    return found == daemons.end() ? nullptr : &*found;
}

Outcome<Scenario> parse_scenario(std::string_view toml, std::string_view file_name,
                                 std::uint64_t seed) {
    TRY(Value document, control::parse_toml(toml, file_name));
    TRY(const auto drawn, draw(document, file_name, seed));
    substitute(document, drawn);
    Scenario scenario;
    TRY_VOID(control::read_fields(scenario, fields_of<Scenario>(), kLists, document, "scenario",
                                  file_name));
    TRY_VOID(read_list(scenario.hosts, "host", document, file_name));
    TRY_VOID(read_list(scenario.daemons, "daemon", document, file_name));
    TRY_VOID(read_list(scenario.clients, "client", document, file_name));
    TRY_VOID(read_list(scenario.steps, "step", document, file_name));
    if (const auto fits = validate(scenario); !fits)
        return refuse(fmt::format("{}: {}", file_name, fits.error().text));
    return scenario;
}

namespace {

// Writing ----------------------------------------------------------------------------------------

/// A value within a line.
std::string inline_text(const Value& value) {
    const std::string line = control::format_toml("", {{"x", value}});
    return line.substr(4, line.size() - 5);
}

/// `key = value`; a list of tables has a line each.
std::string line_of(const Member& member) {
    const auto* const items = member.value.as<Value::Array>();
    if (items == nullptr || items->empty() || items->front().as<Value::Table>() == nullptr)
        return control::format_toml("", {member});
    std::string out = member.key + " = [\n";
    for (const Value& item : *items) out += fmt::format("    {},\n", inline_text(item));
    return out + "]\n";
}

/// A table's own lines. The product's configuration stands there as its own file would.
std::string lines_of(const Value::Table& members) {
    std::string out;
    std::string config;
    for (const Member& member : members)
        if (member.key == "config")
            config = fmt::format("config = '''\n{}'''\n", std::get<std::string>(member.value.data));
        else
            out += line_of(member);
    return out + config;
}

template <typename Spec>
void append(std::string& out, std::string_view kind, const std::vector<Spec>& specs) {
    for (const Spec& spec : specs)
        out += fmt::format("\n[[{}]]\n{}", kind,
                           lines_of(control::write_fields(fields_of<Spec>(), spec)));
}

}  // namespace

std::string to_toml(const Scenario& scenario) {
    // What stands behind the head of a table belongs to that table, so single keys come first.
    Value::Table keys;
    std::string sections;
    for (Member& member : control::write_fields(fields_of<Scenario>(), scenario)) {
        if (const auto* const table = member.value.as<Value::Table>())
            sections += fmt::format("\n[{}]\n{}", member.key, lines_of(*table));
        else
            keys.push_back(std::move(member));
    }
    std::string out = lines_of(keys) + sections;
    append(out, "host", scenario.hosts);
    append(out, "daemon", scenario.daemons);
    append(out, "client", scenario.clients);
    append(out, "step", scenario.steps);
    return out;
}

}  // namespace dst::sim
