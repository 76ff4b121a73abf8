// The other end of the API: what the command line asks a daemon with.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "control/status.h"

namespace dst::control {

/// Blocks in every call, until the daemon has answered.
class ApiClient {
  public:
    explicit ApiClient(std::string socket_path) : socket_path_(std::move(socket_path)) {}

    /// The body of the answer, JSON. A refusal is the daemon's own, or says that none answers.
    [[nodiscard]] Outcome<std::string> request(std::string_view method, const std::string& path,
                                               std::string body = {}) const;
    [[nodiscard]] Outcome<Status> status() const;

  private:
    std::string socket_path_;
};

}  // namespace dst::control
