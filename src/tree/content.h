// What a tree of small files shows: folders, and files of one value each that can be read, written,
// waited for. No kernel here, and nothing of what the values are.
//
// Paths have no slash at either end: "devices/vol0/name"; "" is the root.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "async/task.h"
#include "base/result.h"

namespace dst::tree {

enum class Kind : std::uint8_t { folder, file };

struct Entry {
    Kind kind = Kind::folder;
    bool can_read = true;
    /// Of a file.
    bool can_write = false;
};

struct Named {
    std::string name;
    Kind kind = Kind::folder;
};

/// Reading never suspends: what is shown is there in memory. Belongs to one reactor.
class Content {
  public:
    /// What is at `path` now, if anything is.
    [[nodiscard]] virtual std::optional<Entry> find(std::string_view path) const = 0;
    /// What is in the folder `path` now; empty if it has gone.
    [[nodiscard]] virtual std::vector<Named> list(std::string_view path) const = 0;
    /// All of a file; nothing if it has gone.
    [[nodiscard]] virtual std::optional<std::string> read(std::string_view path) const = 0;
    /// What one write(2) brought. Refusals become its errno. Suspends; takes values, because who
    /// wrote may be gone before it ends.
    virtual async::Task<Outcome<>> write(std::string path, std::string value) = 0;

  protected:
    ~Content() = default;
};

/// The errno that a refusal is to who wrote.
[[nodiscard]] int errno_of(ErrorCode code);

}  // namespace dst::tree
