// Registry: the algorithms there are, by name. The seed's dst_alloc_alg and dst_remove_alg.
//
// An algorithm is counted while an instance of it lives (the seed's `owner`), and can't be removed
// before. What belongs to a loaded file, its code included, goes only after the last instance: an
// instance holds it. Coroutines of an instance must end before the instance does, as for any
// object.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "algorithm/algorithm.h"
#include "base/result.h"

namespace dst::algorithm {

/// Where an algorithm comes from.
struct Origin {
    /// The file that it was loaded from; empty: built in.
    std::string file;
    /// Keeps that file's code in memory. Shared: by the registry and by each instance, which may
    /// end in any order and on any thread.
    std::shared_ptr<const void> code;
};

/// One reactor's (the control side's); instances may be given back on any thread.
class Registry {
    struct Entry;

  public:
    /// Deletes an instance, and counts it off.
    class Release {
      public:
        Release() = default;
        void operator()(Algorithm* algorithm);

      private:
        friend class Registry;
        explicit Release(std::shared_ptr<Entry> entry) : entry_(std::move(entry)) {}
        std::shared_ptr<Entry> entry_;  // shared: the instance may outlive the registry
    };
    using InstanceHandle = std::unique_ptr<Algorithm, Release>;

    /// A line of `list()`.
    struct Listed {
        std::string name;
        std::string description;
        std::string file;  // empty: built in
        std::uint32_t uses = 0;
    };

    Registry() = default;
    Registry(const Registry&) = delete;
    Registry& operator=(const Registry&) = delete;

    /// The seed's dst_alloc_alg. Refuses a name that is taken (`exists`) or malformed: it is 1 to
    /// 32 of a-z, 0-9, `-` and `_`.
    Outcome<> register_algorithm(std::string name, std::string description, Factory factory,
                                 Origin origin = {});
    /// The seed's dst_remove_alg. Refuses an unknown name (`not_found`), one in use and one that is
    /// built in (`busy`).
    Outcome<> unregister_algorithm(std::string_view name);

    /// A new instance for one storage. Refuses an unknown name, and what the factory refuses.
    Outcome<InstanceHandle> create(std::string_view name, const Options& options) const;
    /// All there are, by name.
    [[nodiscard]] std::vector<Listed> list() const;

  private:
    [[nodiscard]] Outcome<std::shared_ptr<Entry>> find(std::string_view name) const;

    std::map<std::string, std::shared_ptr<Entry>, std::less<>> entries_;
};

using InstanceHandle = Registry::InstanceHandle;

}  // namespace dst::algorithm
