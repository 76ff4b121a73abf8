#include "algorithm/registry.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <atomic>
#include <exception>

namespace dst::algorithm {
namespace {

constexpr std::size_t kNameLengthMax = 32;

bool is_name(std::string_view name) {
    return !name.empty() && name.size() <= kNameLengthMax && std::ranges::all_of(name, [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
    });
}

std::string origin_text(const Origin& origin) {
    return origin.file.empty() ? std::string("built in") : "loaded from " + origin.file;
}

}  // namespace

struct Registry::Entry {
    Origin origin;  // first: the factory's code may be that of the file
    std::string description;
    Factory factory;
    std::atomic<std::uint32_t> uses{0};
};

void Registry::Release::operator()(Algorithm* algorithm) {
    delete algorithm;
    entry_->uses.fetch_sub(1, std::memory_order_release);
    entry_.reset();
}

Outcome<> Registry::register_algorithm(std::string name, std::string description, Factory factory,
                                       Origin origin) {
    CHECK(factory != nullptr);
    if (!is_name(name))
        return refuse(
            fmt::format("\"{}\" is no name for an algorithm: it takes 1 to {} of a-z, "
                        "0-9, - and _",
                        name, kNameLengthMax));
    if (const auto found = entries_.find(name); found != entries_.end())
        return refuse(
            ErrorCode::exists,
            fmt::format("algorithm {} ({}) exists already: {}", name, origin_text(origin),
                        found->second->origin.file.empty()
                            ? "it is built in, choose another name"
                            : "unload it first, it is " + origin_text(found->second->origin)));
    auto entry = std::make_shared<Entry>();
    entry->origin = std::move(origin);
    entry->description = std::move(description);
    entry->factory = std::move(factory);
    entries_.emplace(std::move(name), std::move(entry));
    return {};
}

Outcome<> Registry::unregister_algorithm(std::string_view name) {
    TRY(const auto entry, find(name));
    if (entry->origin.code == nullptr)
        return refuse(ErrorCode::busy, fmt::format("algorithm {} is built in and stays", name));
    if (const std::uint32_t uses = entry->uses.load(std::memory_order_acquire); uses > 0)
        return refuse(ErrorCode::busy,
                      fmt::format("algorithm {} is used by {} storage{}: remove {} first", name,
                                  uses, uses == 1 ? "" : "s", uses == 1 ? "it" : "them"));
    entries_.erase(entries_.find(name));
    return {};
}

Outcome<InstanceHandle> Registry::create(std::string_view name, const Options& options) const {
    TRY(auto entry, find(name));
    try {
        TRY(std::unique_ptr<Algorithm> algorithm, entry->factory(options));
        if (algorithm == nullptr) return refuse(fmt::format("algorithm {} made nothing", name));
        entry->uses.fetch_add(1, std::memory_order_relaxed);
        Algorithm* const instance = algorithm.release();
        return InstanceHandle(instance, Release(std::move(entry)));
    } catch (const std::exception& thrown) {
        // What others wrote may throw; nobody above expects it.
        return refuse(fmt::format("algorithm {} could not be made: {}", name, thrown.what()));
    }
}

std::vector<Registry::Listed> Registry::list() const {
    std::vector<Listed> listed;
    listed.reserve(entries_.size());
    for (const auto& [name, entry] : entries_)
        listed.push_back({name, entry->description, entry->origin.file,
                          entry->uses.load(std::memory_order_relaxed)});
    return listed;
}

Outcome<std::shared_ptr<Registry::Entry>> Registry::find(std::string_view name) const {
    if (const auto found = entries_.find(name); found != entries_.end()) return found->second;
    // Mirrors are built in otherwise (src/storage/mirrored.h).
    std::vector<std::string> names{"mirror"};
    for (const auto& [known, entry] : entries_) names.push_back(known);
    return refuse(ErrorCode::not_found,
                  fmt::format("unknown algorithm \"{}\": there are {}; others are loaded "
                              "with `dst algorithm load FILE`",
                              name, fmt::join(names, ", ")));
}

}  // namespace dst::algorithm
