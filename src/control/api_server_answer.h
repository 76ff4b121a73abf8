// The API's answers: JSON, and errors as {"error": {"code", "text"}} with a fitting HTTP status.
// Both ends: the server writes them, the client reads them.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

namespace dst::control {

struct ApiRequest {
    std::string method;
    std::string path;  // decoded, without a query
    std::string body;
};

struct ApiAnswer {
    int status = 200;
    std::string body = "{}";
    std::string type = "application/json";
};

/// The answer that says `problem`.
[[nodiscard]] ApiAnswer refusal(const Problem& problem);
/// An error that is HTTP's own, such as 404 and 405.
[[nodiscard]] ApiAnswer refusal(int status, std::string text);
/// What a refusal said; makes do with the status if the body is not ours.
[[nodiscard]] Problem read_refusal(int status, std::string_view body);

/// The name of a code as the API has it: "not_found".
[[nodiscard]] std::string_view code_name(ErrorCode code);

}  // namespace dst::control
