// Where the copies of a scenario's mirrors lie, as far as that is on disks that can be looked at.
#pragma once

#include <algorithm>
#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "metadata/bitmap.h"
#include "metadata/superblock.h"
#include "sim/disk.h"
#include "sim/run/stage.h"

namespace dst::sim {

/// Where a device's content lies: on a disk, or on one after another.
class Copy {
  public:
    explicit Copy(std::string name) : name_(std::move(name)) {}
    /// At most so much of the front of `other` follows.
    void append(const Copy& other, std::optional<SectorCount> most);
    void append(const Disk& disk) { parts_.push_back({&disk, disk.medium().size()}); }
    /// All of one disk: it may grow.
    [[nodiscard]] bool is_whole_disk() const { return is_whole_disk_; }
    void note_whole_disk() { is_whole_disk_ = true; }

    [[nodiscard]] const std::string& name() const { return name_; }
    [[nodiscard]] SectorCount size() const;
    /// Where a node ends there, or did before it grew.
    [[nodiscard]] std::vector<SectorCount> ends() const;
    /// What reads would see if nothing else was cached anywhere.
    [[nodiscard]] std::vector<std::byte> read(SectorRange range) const;
    /// Another disk is in the place of one of them.
    [[nodiscard]] bool is_exchanged() const;
    /// Told what has just changed of what `read` sees. One at a time for each disk.
    void watch(const std::function<void(SectorRange)>& watcher) const;
    [[nodiscard]] bool is_same_place(const Copy& other) const { return parts_ == other.parts_; }

  private:
    struct Part {
        const Disk* disk = nullptr;
        SectorCount size;
        friend bool operator==(const Part&, const Part&) = default;
    };
    std::string name_;
    std::vector<Part> parts_;
    bool is_whole_disk_ = false;
};

struct Mirrored {
    const Stage::Server* server = nullptr;
    const control::StorageSpec* spec = nullptr;
    /// Of its nodes and witnesses, those that are disks, or disks one after another; and of what an
    /// administrator may make one.
    std::vector<Copy> copies;
    std::vector<control::NodeSpec> places;  // of each copy, as the configuration calls it
    bool is_changed_at_run_time = false;
    std::string state_path;  // where its daemon notes that

    /// Another head's view of the same storage, or this one.
    [[nodiscard]] bool is_same(const Mirrored& other) const {
        return this == &other ||
               (!copies.empty() &&
                std::ranges::equal(copies, other.copies, [](const Copy& a, const Copy& b) {
                    return a.is_same_place(b);
                }));
    }
};
/// The places of its nodes, as its daemon would find them written down if it was started now: in
/// its file, and in what was changed since. What an administrator changes moves them.
[[nodiscard]] std::vector<control::NodeSpec> listed_places(const Mirrored& mirror);
/// What was changed since, as text; empty: nothing.
[[nodiscard]] const std::string& state_of(const Mirrored& mirror);
/// Its daemon would look there.
[[nodiscard]] bool is_listed(const Mirrored& mirror, std::size_t copy,
                             const std::vector<control::NodeSpec>& listed);

/// Each storage of the algorithm mirror that a daemon is configured with.
[[nodiscard]] std::vector<Mirrored> find_mirrors(Stage& stage);

/// What both copies of the superblock say, as anybody would read them who has docs/on-disk.md.
[[nodiscard]] metadata::Reading superblock_on(const Copy& copy);
/// Both copies hold that age: so it may be durable there, and not only on its way.
[[nodiscard]] bool is_whole_on(const Copy& copy, const metadata::Age& age);
/// A bitmap where `superblock` is. What is damaged says what is safe to believe, and is noted.
[[nodiscard]] metadata::Bitmap bitmap_on(const Copy& copy, const metadata::Superblock& superblock,
                                         metadata::BitmapName name, bool* is_damaged = nullptr);

}  // namespace dst::sim
