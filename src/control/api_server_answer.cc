#include "control/api_server_answer.h"

#include <fmt/format.h>

#include <array>
#include <nlohmann/json.hpp>

namespace dst::control {
namespace {

struct CodeRow {
    ErrorCode code;
    std::string_view name;
    int status;
};
constexpr auto kCodes = std::to_array<CodeRow>({
    {ErrorCode::invalid, "invalid", 400},
    {ErrorCode::out_of_range, "out_of_range", 400},
    {ErrorCode::not_permitted, "not_permitted", 403},
    {ErrorCode::not_found, "not_found", 404},
    {ErrorCode::exists, "exists", 409},
    {ErrorCode::busy, "busy", 409},
    {ErrorCode::refused, "refused", 409},
    {ErrorCode::overflow, "overflow", 413},
    {ErrorCode::io_error, "io_error", 500},
    {ErrorCode::corrupt, "corrupt", 500},
    {ErrorCode::unsupported, "unsupported", 501},
    {ErrorCode::node_lost, "node_lost", 502},
    {ErrorCode::shutting_down, "shutting_down", 503},
    {ErrorCode::no_memory, "no_memory", 503},
    {ErrorCode::cancelled, "cancelled", 503},
    {ErrorCode::timed_out, "timed_out", 504},
    {ErrorCode::no_space, "no_space", 507},
});

const CodeRow& row_of(ErrorCode code) {
    for (const auto& row : kCodes) {
        if (row.code == code) return row;
    }
    return kCodes.front();
}

std::string error_body(std::string_view name, std::string_view text) {
    const nlohmann::json json = {{"error", {{"code", name}, {"text", text}}}};
    return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace

std::string_view code_name(ErrorCode code) { return row_of(code).name; }

ApiAnswer refusal(const Problem& problem) {
    const CodeRow& row = row_of(problem.code);
    return {row.status, error_body(row.name, problem.text)};
}

ApiAnswer refusal(int status, std::string text) {
    std::string_view name = "invalid";
    for (const auto& row : kCodes) {
        if (row.status == status) {
            name = row.name;
            break;
        }
    }
    return {status, error_body(name, text)};
}

Problem read_refusal(int status, std::string_view body) {
    Problem problem{
        ErrorCode::invalid,
        fmt::format("the daemon answered with HTTP status {} and no reason; is it a dst "
                    "daemon of this version?",
                    status)};
    for (const auto& row : kCodes) {
        if (row.status == status) {
            problem.code = row.code;
            break;
        }
    }
    const auto json = nlohmann::json::parse(body, nullptr, false);
    if (!json.is_object() || !json.contains("error") || !json["error"].is_object()) return problem;
    const auto& error = json["error"];
    if (error.contains("text") && error["text"].is_string()) {
        problem.text = error["text"].get<std::string>();
    }
    if (!error.contains("code") || !error["code"].is_string()) return problem;
    for (const auto& row : kCodes) {
        if (row.name == error["code"].get<std::string>()) problem.code = row.code;
    }
    return problem;
}

}  // namespace dst::control
