#include "control/config_value.h"

namespace dst::control {

const Value* Value::find(std::string_view key) const {
    const auto* members = as<Table>();
    if (members == nullptr) return nullptr;
    for (const Member& member : *members) {
        if (member.key == key) return &member.value;
    }
    return nullptr;
}

std::string_view Value::type_name() const {
    static constexpr std::string_view kNames[] = {"no value of ours", "a string",      "an integer",
                                                  "a fraction",       "true or false", "an array",
                                                  "a table"};
    return kNames[data.index()];
}

}  // namespace dst::control
