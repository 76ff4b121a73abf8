// How --help is laid out: within 80 columns, but for examples, which are to be copied as they are.
#pragma once

#include <CLI/CLI.hpp>
#include <memory>

namespace dst::cli {

/// For the program; its verbs inherit it.
[[nodiscard]] std::shared_ptr<CLI::Formatter> make_help_formatter();

}  // namespace dst::cli
