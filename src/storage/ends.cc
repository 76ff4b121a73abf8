#include "storage/ends.h"

#include <fmt/format.h>

#include <charconv>

#include "base/log.h"

namespace dst::storage {

std::string Ends::path_of(const std::string& storage) const {
    return fmt::format("{}/{}", folder_, storage);
}

/// A line each, in sectors.
std::vector<SectorCount> Ends::recall(const std::string& storage) const {
    std::vector<SectorCount> ends;
    if (folder_.empty()) return ends;
    const auto text = world_.files.load(path_of(storage));
    if (!text && text.error().code != ErrorCode::not_found)
        log::warning("storage {}: where its nodes ended before is not known: {}", storage,
                     text.error().text);
    if (!text) return ends;
    const char* at = text->data();
    const char* const end = at + text->size();
    while (at < end) {
        std::uint64_t sectors = 0;
        const auto [next, error] = std::from_chars(at, end, sectors);
        if (error == std::errc()) ends.push_back(SectorCount(sectors));
        at = next == at ? at + 1 : next;
    }
    return ends;
}

Outcome<> Ends::note(const std::string& storage, const std::vector<SectorCount>& ends) {
    if (folder_.empty() || (ends.empty() && recall(storage).empty())) return {};
    std::string text;
    for (const SectorCount end : ends) text += fmt::format("{}\n", end.value());
    return world_.files.store(path_of(storage), text);
}

}  // namespace dst::storage
