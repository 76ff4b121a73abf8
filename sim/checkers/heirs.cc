// Heirs: whoever a head could go on from at this moment, if the present one died, has all that was
// promised, and knows of all that is not equal. Asked after each event that changes a disk, or a
// promise: so what a crash would have to meet in the right millisecond is seen without one.
//
// What is known here is docs/on-disk.md, and of the rules of a start these: the newest age that is
// seen says which nodes are needed (all that it has attached; under a majority, a majority of votes
// and one of those), and any that it has attached may be the source. A source says of a node that
// comes with an older age where that lacks something, and so does that node.
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "sim/check/promises.h"
#include "sim/checkers/checker.h"
#include "sim/run/copies.h"

namespace dst::sim {
namespace {

using metadata::Bitmap;
using metadata::BitmapKind;
using metadata::RegionCount;
using metadata::RegionIndex;
using metadata::Superblock;

/// One copy, as its disk shows it now.
struct Seen {
    const Copy* copy = nullptr;
    std::optional<Superblock> superblock;
    Bitmap intent{RegionCount()};
    Bitmap unwritten{RegionCount()};
    bool is_unwritten_damaged = false;  // a head would ask others what was never written
    std::vector<Bitmap> stale;          // by slot
    /// A head would look there.
    bool is_listed = true;
    bool is_heir = false;
    /// As an heir it had all that was promised when it was looked at last.
    bool is_proven = false;
    /// Since the last look, of its data and of its metadata.
    std::vector<SectorRange> changed;
    std::vector<SectorRange> retold{{SectorIndex(), SectorCount(1)}};

    [[nodiscard]] const metadata::Form& form() const { return superblock->form; }
    [[nodiscard]] bool is_data() const {
        return is_listed && superblock && !form().is_forming && !superblock->self().is_witness;
    }
};

bool overlap(SectorRange a, SectorRange b) { return a.first < b.end() && b.first < a.end(); }

/// Both speak of the same nodes, by the same bitmaps.
bool are_slots_alike(const metadata::Form& a, const metadata::Form& b) {
    return std::ranges::equal(a.nodes, b.nodes, [](const auto& one, const auto& other) {
        return one.cookie == other.cookie && one.slot == other.slot;
    });
}

/// Reads anew what a copy says of itself and of the others, as far as it was written again. True if
/// that is another superblock than before.
bool read_metadata(Seen& seen) {
    const auto before = std::move(seen.superblock);
    auto reading = superblock_on(*seen.copy);
    seen.superblock.reset();
    if (reading) seen.superblock = *std::move(reading);
    const bool is_other = !before || !seen.superblock ||
                          before->sequence != seen.superblock->sequence ||
                          before->form != seen.form();
    if (!seen.is_data()) return is_other;
    const bool are_places_other = !before || before->form.shape != seen.form().shape ||
                                  before->self().size != seen.superblock->self().size ||
                                  before->form.is_forming ||
                                  !are_slots_alike(before->form, seen.form());
    const auto layout = metadata::Layout::of(seen.form().shape, seen.superblock->self().size);
    const auto read = [&](metadata::BitmapName name, Bitmap& into) {
        const bool is_retold = std::ranges::any_of(
            seen.retold, [&](SectorRange range) { return overlap(range, layout->bitmap(name)); });
        if (!are_places_other && !is_retold) return;
        bool is_damaged = false;
        into = bitmap_on(*seen.copy, *seen.superblock, name, &is_damaged);
        if (name.kind == BitmapKind::unwritten) seen.is_unwritten_damaged = is_damaged;
        seen.is_proven &= name.kind != BitmapKind::unwritten;
    };
    read({BitmapKind::intent, 0}, seen.intent);
    read({BitmapKind::unwritten, 0}, seen.unwritten);
    for (const metadata::NodeRecord& record : seen.form().nodes) {
        if (record.is_witness) continue;
        if (seen.stale.size() <= record.slot)
            seen.stale.resize(record.slot + 1u, Bitmap(RegionCount()));
        read({BitmapKind::stale, record.slot}, seen.stale[record.slot]);
    }
    return is_other;
}

/// Those that a head could start from which sees these alone: none, or by their place.
std::vector<std::size_t> sources_of(const std::vector<Seen*>& those) {
    const auto is_newest = [&](const Seen* one) {
        return std::ranges::all_of(those, [&](const Seen* other) {
            return metadata::passes_through(one->form().history, other->form().history.age);
        });
    };
    const auto newest = std::ranges::find_if(those, is_newest);
    if (newest == those.end()) return {};
    const metadata::Form& form = (*newest)->form();
    const auto is_there = [&](const metadata::NodeRecord& record) {
        return std::ranges::any_of(
            those, [&](const Seen* one) { return one->superblock->cookie == record.cookie; });
    };
    std::size_t votes = 0;
    bool are_all_there = true;
    for (const metadata::NodeRecord& record : form.nodes) {
        votes += record.has_vote && is_there(record) ? 1 : 0;
        are_all_there &= !record.attached || is_there(record);
    }
    if (form.quorum == metadata::Quorum::none ? !are_all_there : votes < form.majority()) return {};
    std::vector<std::size_t> sources;
    for (std::size_t at = 0; at < those.size(); ++at) {
        const metadata::NodeRecord* const record = form.find(those[at]->superblock->cookie);
        if (record != nullptr && record->attached) sources.push_back(at);
    }
    return sources;
}

/// One mirror, and what is promised of it.
class Estate {
  public:
    Estate(Mirrored mirror, const check::History* history) : mirror_(std::move(mirror)) {
        if (history != nullptr) promises_.emplace(*history);
        for (const Copy& copy : mirror_.copies) {
            auto& seen = *all_.emplace_back(std::make_unique<Seen>());
            seen.copy = &copy;
            copy.watch([this, &seen](SectorRange range) { note(seen, range); });
        }
        doubtful_.resize(all_.size() * all_.size(), Bitmap(RegionCount()));
    }

    /// Another head's view of it is no other.
    [[nodiscard]] bool is_of(const Mirrored& mirror) const { return mirror_.is_same(mirror); }
    /// What is wrong now, in a sentence; empty: nothing. `is_forced`: a person has overruled what
    /// is there, so nothing is promised any more.
    [[nodiscard]] std::string look(bool is_forced) {
        if (is_forced) promises_.reset();
        raised_.clear();
        if (promises_) promises_->follow(raised_);
        look_at_list();
        if (!has_changed_ && raised_.empty()) return {};
        has_changed_ = false;
        for (const auto& seen : all_)
            if (seen->copy->is_exchanged()) return {};
        const bool are_retold =
            std::ranges::any_of(all_, [](const auto& seen) { return !seen->retold.empty(); });
        for (const auto& seen : all_) doubt_what_changed(*seen);
        if (are_retold) read_all_metadata();
        std::string wrong = look_at_copies(are_retold);
        if (wrong.empty() && promises_) wrong = look_at_promises();
        for (const auto& seen : all_) seen->changed.clear();
        return wrong;
    }

  private:
    /// More copies than that are looked at together only, not in all sets of some.
    static constexpr std::size_t kSetsOf = 6;

    /// What is not written down where the head begins is of no use to it.
    void look_at_list() {
        if (!mirror_.is_changed_at_run_time) return;
        const std::string& state = state_of(mirror_);
        if (state == state_ && is_list_known_) return;
        state_ = state;
        is_list_known_ = true;
        const auto listed = listed_places(mirror_);
        for (std::size_t at = 0; at < all_.size(); ++at) {
            Seen& seen = *all_[at];
            if (std::exchange(seen.is_listed, is_listed(mirror_, at, listed)) == seen.is_listed)
                continue;
            has_changed_ = true;
            seen.retold.push_back({SectorIndex(), SectorCount(1)});
            // All of it is read anew.
            seen.superblock.reset();
            doubt_all(seen);
        }
    }

    void note(Seen& seen, SectorRange range) {
        has_changed_ = true;
        if (seen.is_data() && range.end() <= SectorIndex(0) + seen.form().shape.data_size) {
            seen.changed.push_back(range);
            return;
        }
        seen.retold.push_back(range);
        if (!seen.is_data()) doubt_all(seen);
    }

    void read_all_metadata() {
        bool is_any_other = false;
        for (const auto& seen : all_) {
            if (seen->retold.empty()) continue;
            const auto shape = seen->is_data() ? seen->form().shape : metadata::Shape{};
            is_any_other |= read_metadata(*seen);
            seen->retold.clear();
            if (!seen->is_data() || seen->form().shape != shape) {
                doubt_all(*seen);
                seen->is_proven = false;
            }
        }
        if (is_any_other) find_heirs();
    }

    [[nodiscard]] std::string look_at_copies(bool everywhere) {
        for (const auto& heir : all_) {
            if (!heir->is_heir) continue;
            const SectorRange all{SectorIndex(), heir->form().shape.data_size};
            for (const auto& other : all_) {
                std::string wrong;
                if (everywhere) wrong = differs(*heir, *other, all);
                for (const auto* const ranges : {&heir->changed, &other->changed})
                    for (const SectorRange range : *ranges)
                        if (!everywhere && wrong.empty()) wrong = differs(*heir, *other, range);
                if (!wrong.empty()) return wrong;
            }
        }
        return {};
    }

    [[nodiscard]] std::string look_at_promises() {
        for (const auto& heir : all_) {
            if (!heir->is_heir || heir->is_unwritten_damaged) continue;
            const SectorIndex end =
                std::min(promises_->end(), SectorIndex(0) + heir->form().shape.data_size);
            std::string wrong;
            if (!heir->is_proven) wrong = lacks(*heir, {SectorIndex(), end - SectorIndex()});
            for (const auto* const ranges : {&heir->changed, &raised_})
                for (const SectorRange range : *ranges)
                    if (heir->is_proven && wrong.empty()) wrong = lacks(*heir, range);
            if (!wrong.empty()) return wrong;
            heir->is_proven = true;
        }
        return {};
    }

    void find_heirs() {
        std::vector<Seen*> readable;
        for (const auto& seen : all_) {
            seen->is_heir = false;
            if (seen->is_listed && seen->superblock && !seen->form().is_forming)
                readable.push_back(seen.get());
        }
        const std::size_t sets =
            readable.size() <= kSetsOf ? (std::size_t{1} << readable.size()) : 2;
        std::vector<Seen*> those;
        for (std::size_t set = 1; set < sets; ++set) {
            those.clear();
            for (std::size_t at = 0; at < readable.size(); ++at)
                if (sets == 2 || (set >> at & 1) != 0) those.push_back(readable[at]);
            for (const std::size_t source : sources_of(those)) those[source]->is_heir = true;
        }
        for (const auto& seen : all_) seen->is_proven &= seen->is_heir;
    }

    /// A head that starts from `heir` would take them as equal there.
    [[nodiscard]] static bool are_said_to_be_equal(const Seen& heir, const Seen& other,
                                                   RegionIndex region) {
        const metadata::NodeRecord& record = *heir.form().find(other.superblock->cookie);
        return !heir.intent.test(region) && !heir.unwritten.test(region) &&
               !heir.stale[record.slot].test(region) && !other.intent.test(region);
    }
    /// It would be taken in.
    [[nodiscard]] static bool comes_after(const Seen& heir, const Seen& other) {
        if (&heir == &other || !other.is_data() || heir.form().shape != other.form().shape ||
            heir.form().storage_id != other.form().storage_id)
            return false;
        const metadata::NodeRecord* const there = heir.form().find(other.superblock->cookie);
        return there != nullptr && there->slot == other.superblock->self().slot &&
               metadata::passes_through(heir.form().history, other.form().history.age);
    }

    [[nodiscard]] std::string differs(const Seen& heir, const Seen& other, SectorRange range) {
        if (!comes_after(heir, other)) return {};
        const metadata::Shape& shape = heir.form().shape;
        const metadata::RegionRange regions = shape.regions_of(range);
        Bitmap& doubtful = doubtful_between(heir, other);
        if (doubtful.size() != blocks_of({{}, shape.data_size}).count)
            doubtful = Bitmap(blocks_of({{}, shape.data_size}).count, true);
        for (RegionIndex at = regions.first; at < regions.end(); ++at) {
            const SectorRange all = shape.sectors_of(at);
            if (!doubtful.any(blocks_of(all)) || !are_said_to_be_equal(heir, other, at)) continue;
            // The rest of the region in which the data ended before it grew.
            if (all.contains({heir.form().zero_from, SectorCount(1)}) &&
                heir.form().zero_from != SectorIndex())
                continue;
            if (are_equal(heir, other, blocks_of(all), doubtful)) continue;
            return fmt::format(
                "a head that starts from {} now would take {} to be equal in "
                "sectors {}+{}, and it is not",
                heir.copy->name(), other.copy->name(), all.first.value(), all.count.value());
        }
        return {};
    }
    /// Compares what is doubtful of those blocks.
    [[nodiscard]] bool are_equal(const Seen& heir, const Seen& other, metadata::RegionRange blocks,
                                 Bitmap& doubtful) {
        for (auto run = doubtful.next_run(blocks.first); run && run->first < blocks.end();
             run = doubtful.next_run(run->end())) {
            const RegionIndex end = std::min(run->end(), blocks.end());
            const SectorRange range{SectorIndex(run->first.value() * kBlockSectors),
                                    SectorCount((end - run->first).value() * kBlockSectors)};
            if (heir.copy->read(range) != other.copy->read(range)) return false;
            doubtful.clear(metadata::RegionRange{run->first, end - run->first});
        }
        return true;
    }

    [[nodiscard]] std::string lacks(const Seen& heir, SectorRange range) const {
        SectorIndex at = range.first;
        while (at < range.end()) {
            SectorIndex end = at;
            while (end < range.end() && promises_->has(end)) end = end + SectorCount(1);
            if (std::string wrong = lacks_of(heir, {at, end - at}); !wrong.empty()) return wrong;
            at = end + SectorCount(1);
        }
        return {};
    }
    /// Of sectors with something promised.
    [[nodiscard]] std::string lacks_of(const Seen& heir, SectorRange range) const {
        if (range.count.value() == 0) return {};
        const std::vector<std::byte> all = heir.copy->read(range);
        for (SectorIndex at = range.first; at < range.end(); at = at + SectorCount(1)) {
            auto bytes = std::span(all).subspan(to_bytes(at - range.first).value(), kSectorBytes);
            if (heir.unwritten.test(heir.form().shape.region_of(at))) bytes = {};
            if (promises_->allows(at, bytes)) continue;
            return fmt::format(
                "a head could start from {} now, and that lacks a change of sector "
                "{} that was acknowledged as durable",
                heir.copy->name(), at.value());
        }
        return {};
    }

    [[nodiscard]] std::size_t place_of(const Seen& seen) const {
        return static_cast<std::size_t>(
            std::ranges::find(all_, &seen, &std::unique_ptr<Seen>::get) - all_.begin());
    }
    /// The blocks that were not compared since either of them changed there.
    [[nodiscard]] Bitmap& doubtful_between(const Seen& one, const Seen& other) {
        const auto [low, high] = std::minmax(place_of(one), place_of(other));
        return doubtful_[low * all_.size() + high];
    }
    void doubt_all(const Seen& seen) {
        for (const auto& other : all_) doubtful_between(seen, *other) = Bitmap(RegionCount());
    }
    void doubt_what_changed(const Seen& seen) {
        for (const SectorRange range : seen.changed)
            for (const auto& other : all_) {
                Bitmap& doubtful = doubtful_between(seen, *other);
                if (doubtful.size() > RegionCount()) doubtful.set(blocks_of(range));
            }
    }
    /// Blocks of 4 KiB, of which data has whole ones. A bitmap of them has one each as a region.
    static constexpr std::uint64_t kBlockSectors = 8;
    static metadata::RegionRange blocks_of(SectorRange range) {
        const RegionIndex first(range.first.value() / kBlockSectors);
        return {first,
                RegionIndex((range.end().value() + kBlockSectors - 1) / kBlockSectors) - first};
    }

    Mirrored mirror_;
    std::optional<check::Promises> promises_;
    std::vector<std::unique_ptr<Seen>> all_;
    std::vector<Bitmap> doubtful_;     // by both places
    std::vector<SectorRange> raised_;  // where more is promised than at the last look
    bool has_changed_ = true;
    std::string state_;  // of the head, when its list was read last
    bool is_list_known_ = false;
};

class HeirsChecker final : public Checker {
  public:
    explicit HeirsChecker(Stage& stage) : Checker(stage) {
        for (Mirrored& mirror : find_mirrors(stage)) {
            const bool is_seen = std::ranges::any_of(
                estates_, [&](const auto& estate) { return estate->is_of(mirror); });
            if (is_seen || mirror.copies.empty()) continue;
            const check::History* const history = history_of(mirror);
            estates_.push_back(std::make_unique<Estate>(std::move(mirror), history));
        }
        if (!estates_.empty()) stage.world().watch([this] { check(); });
    }

  private:
    void check() {
        if (!findings().empty()) return;
        for (const auto& estate : estates_)
            if (std::string wrong = estate->look(stage().is_forced()); !wrong.empty()) {
                stage().world().trace("heirs", "{}", wrong);
                found("heirs", std::move(wrong));
                return;
            }
    }

    /// What the clients of the mirror itself were told; null if it has none.
    [[nodiscard]] const check::History* history_of(const Mirrored& mirror) const {
        for (const auto& customer : stage().customers()) {
            if (customer->volume->keeper() != Volume::Keeper::storage) continue;
            const auto [daemon, name] = split_at(customer->spec->at);
            if (daemon != mirror.server->spec->name) continue;
            const auto* const shown = mirror.server->spec->config.find_export(name);
            if (shown == nullptr) continue;
            const auto* const storage = std::get_if<control::StorageDevice>(&shown->device);
            if (storage != nullptr && storage->name == mirror.spec->name)
                return &customer->volume->history();
        }
        return nullptr;
    }

    std::vector<std::unique_ptr<Estate>> estates_;
};

}  // namespace

std::unique_ptr<Checker> make_heirs_checker(Stage& stage) {
    return std::make_unique<HeirsChecker>(stage);
}

}  // namespace dst::sim
