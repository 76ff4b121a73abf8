// Live changes of a mirrored storage: nodes come in and go out, are marked, are compared, while
// requests go on.

#include <fmt/format.h>

#include <algorithm>

#include "base/log.h"
#include "storage/mirrored.h"

namespace dst::storage {
namespace {

using metadata::NodeRecord;

/// How long another copy is waited for that could take the place of the last one.
constexpr io::Duration kHeirMax = std::chrono::seconds(3);

Outcome<> explain(const MemberSpec& spec, std::string_view what, Outcome<> done) {
    if (done) return done;
    return refuse(done.error().code, fmt::format("{} {}: {}", spec.type, what, done.error().text));
}

}  // namespace

/// While one lives the mirror stays.
class MirroredStorage::Command {
  public:
    explicit Command(MirroredStorage& storage) : storage_(storage) { ++storage_.commands_; }
    ~Command() {
        if (--storage_.commands_ == 0) storage_.command_ended_.wake_all();
    }
    Command(const Command&) = delete;
    Command& operator=(const Command&) = delete;

  private:
    MirroredStorage& storage_;
};

Outcome<> MirroredStorage::check_serving() const {
    if (is_formed() && !stopping_ && mirror_ != nullptr && mirror_->is_serving()) return {};
    return refuse(ErrorCode::busy, fmt::format("storage '{}' can't be changed now: {}", name(),
                                               is_formed() ? "it is being stopped" : obstacle()));
}

Outcome<const NodeRecord*> MirroredStorage::record_of(node::Cookie node) const {
    TRY_VOID(check_serving());
    const NodeRecord* const record = mirror_->form().find(node);
    if (record == nullptr)
        return refuse(
            ErrorCode::not_found,
            fmt::format("storage '{}' has no node {:016x}: 'dst status' lists them", name(), node));
    return record;
}

// Coming in -------------------------------------------------------------------------------------

async::Task<Outcome<>> MirroredStorage::add_node(MemberSpec spec, Adding adding,
                                                 io::TimePoint deadline) {
    const Command command(*this);
    CO_TRY_VOID(check_serving());
    if (const NodeRecord* const lost = lost_at(spec.type))
        co_return refuse(
            ErrorCode::exists,
            fmt::format("node {:016x} was at {} and is not there now: 'dst node replace' puts "
                        "another disk in its place, 'dst node remove' takes it out",
                        lost->cookie, spec.type));
    CO_TRY(Place* const place, co_await open_newcomer(spec, adding, deadline));
    if (const Outcome<> noted = note_newcomer(*place, adding); !noted) co_return noted;
    const Outcome<> taken = co_await take_in(*place, adding, deadline);
    co_return explain(spec, "was not added", taken);
}

/// If that fails it is left alone.
Outcome<> MirroredStorage::note_newcomer(Place& place, const Adding& adding) {
    Outcome<> noted = adding.note ? adding.note() : Outcome<>{};
    if (noted) return noted;
    place.take_in_hand(false);
    place.leave();
    events_.wake_all();
    return noted;
}

/// A place for it, open and fit to become a node. On refusal it is closed again.
async::Task<Outcome<Place*>> MirroredStorage::open_newcomer(MemberSpec spec, Adding adding,
                                                            io::TimePoint deadline) {
    CO_TRY_VOID(check_serving());
    const auto there = std::ranges::find_if(places_, [&](const auto& place) {
        return place->name() == spec.type && !place->is_leaving();
    });
    Place* place = there != places_.end() ? there->get() : nullptr;
    if (place != nullptr && place->cookie())
        co_return refuse(ErrorCode::exists,
                         fmt::format("{} is a node of storage '{}' already", spec.type, name()));
    if (place != nullptr && place->is_in_hand())
        co_return refuse(ErrorCode::busy, fmt::format("{} is being added to storage '{}' already",
                                                      spec.type, name()));
    const bool is_opened_here = place == nullptr;
    if (is_opened_here) {
        Member::Owner& owner = *this;
        const Place::Judge& judges = *this;
        place =
            places_
                .emplace_back(std::make_unique<Place>(around_, settings_, spec, adding.is_witness,
                                                      owner, judges, *metadata_memory_))
                .get();
        scope_.spawn(place->member().open());
    }
    place->take_in_hand(true);
    const auto waits = [&] {
        return !place->is_connected() && !place->member().is_hopeless() && !stopping_ &&
               !around_.ending;
    };
    while (waits() && co_await io::wait_until(around_.world.clock, changes_, deadline)) {
    }
    Outcome<> fit;
    if (stopping_ || around_.ending)
        fit = refuse(ErrorCode::cancelled, "the storage is being stopped");
    else if (!place->is_connected())
        fit = refuse(ErrorCode::not_found, place->member().reason());
    else
        fit = co_await check_newcomer(*place, adding);
    if (fit) co_return place;
    place->take_in_hand(false);
    if (is_opened_here) {
        place->leave();
        events_.wake_all();
    }
    co_return std::unexpected(explain(spec, "was not added", std::move(fit)).error());
}

/// What lies there may be overwritten. Makes it blank. `replaced`: of the node whose disk it takes
/// the place of, or 0.
async::Task<Outcome<>> MirroredStorage::check_newcomer(Place& place, Adding adding,
                                                       metadata::Cookie replaced) {
    const metadata::Place seen = co_await place.look({});
    place.forget_node();
    CO_TRY_VOID(check_serving());
    if (const auto* unreachable = std::get_if<metadata::Unreachable>(&seen.seen))
        co_return refuse(ErrorCode::node_lost, unreachable->why);
    CO_TRY_VOID(mirror_->roster().check_size(place.size(), adding.is_witness));
    const auto* const unreadable = std::get_if<metadata::Unreadable>(&seen.seen);
    if (unreadable != nullptr && unreadable->kind == metadata::Unreadable::Kind::blank)
        co_return Outcome<>{};
    const auto* const superblock = std::get_if<metadata::Superblock>(&seen.seen);
    const metadata::Form& form = mirror_->form();
    if (superblock != nullptr && superblock->cookie == replaced &&
        superblock->form.storage_id == form.storage_id)
        co_return refuse(ErrorCode::exists,
                         "it is the disk that was there: 'dst node mark-dirty' has all of it "
                         "compared and copied anew");
    if (superblock != nullptr && form.find(superblock->cookie) != nullptr &&
        superblock->form.storage_id == form.storage_id)
        co_return refuse(ErrorCode::exists,
                         fmt::format("it is node {:016x} of this storage, at another place",
                                     superblock->cookie));
    // A node that was removed from here has nothing that is not known here.
    const bool was_removed = superblock != nullptr &&
                             superblock->form.storage_id == form.storage_id &&
                             metadata::passes_through(form.history, superblock->form.history.age);
    if (was_removed || adding.force) {
        // Who has it still, be it an earlier life of this head, would have nobody write there.
        CO_TRY_VOID(co_await place.claim(false));
        const Outcome<> erased = co_await place.erase();
        if (!erased) co_await place.release();
        co_return erased;
    }
    if (superblock != nullptr)
        co_return refuse(
            ErrorCode::busy,
            fmt::format("it belongs to {} '{}' ({}): add it with --force if that is not needed",
                        superblock->form.storage_id == form.storage_id
                            ? "another way that this storage went, and to"
                            : "storage",
                        superblock->form.name, metadata::to_string(superblock->form.storage_id)));
    co_return refuse(
        ErrorCode::busy,
        fmt::format("it {} where the metadata will be, in its last 64 KiB: add it with "
                    "--force if that is not needed",
                    metadata::to_string(*unreadable)));
}

async::Task<Outcome<>> MirroredStorage::take_in(Place& place, Adding adding,
                                                io::TimePoint deadline) {
    metadata::Cookie cookie = 0;
    while (cookie == 0) cookie = around_.world.random.next();
    place.become_node(cookie);
    place.note_stranger({});
    NodeRecord newcomer{.cookie = cookie,
                        .size = place.size(),
                        .is_witness = adding.is_witness,
                        .has_vote = place.can_vote(),
                        .instance = place.instance(),
                        .type = metadata::cut_type(place.name())};
    Outcome<> added = co_await mirror_->roster().add(std::move(newcomer), place, place.is_local(),
                                                     settings_.mirror.quorum, deadline);
    place.take_in_hand(false);
    if (!added) {
        place.leave();
        events_.wake_all();
        co_return added;
    }
    auto& specs = adding.is_witness ? settings_.mirror.witnesses : settings_.members;
    // It may have been named before it was one.
    if (std::ranges::find(specs, place.name(), &MemberSpec::type) == specs.end())
        specs.push_back(place.member().spec());
    log::info("storage {}: {} added as node {:016x}", name(), place.name(), cookie);
    changes_.wake_all();
    co_return added;
}

// Going out -------------------------------------------------------------------------------------

/// Has it all of the data, alone?
bool MirroredStorage::is_last_clean(node::Cookie node) const {
    if (!check_serving()) return false;
    const auto& nodes = mirror_->form().nodes;
    const auto is_attached = [](const NodeRecord& record) { return record.attached; };
    return std::ranges::count_if(nodes, is_attached) == 1 &&
           std::ranges::find_if(nodes, is_attached)->cookie == node;
}

/// Of the copies that can be had, but for that node's, the one that lacks the least.
std::optional<node::Cookie> MirroredStorage::heir_of(node::Cookie node) const {
    if (!check_serving()) return std::nullopt;
    std::optional<mirror::Mirror::NodeView> heir;
    for (const auto& view : mirror_->nodes()) {
        const NodeRecord* const record = mirror_->form().find(view.cookie);
        if (record == nullptr || record->is_witness || view.cookie == node || !view.is_connected)
            continue;
        if (!heir || view.stale < heir->stale) heir = view;
    }
    return heir ? std::optional(heir->cookie) : std::nullopt;
}

/// Goes on from the copy of another node, though what that lacks is lost. Suspends until that is
/// so.
async::Task<Outcome<>> MirroredStorage::pass_over(node::Cookie node, io::TimePoint deadline) {
    std::optional<node::Cookie> heir;
    // One that has just been marked itself comes back at once.
    const io::TimePoint last = std::min(deadline, around_.world.clock.now() + kHeirMax);
    while (!(heir = heir_of(node)) && !stopping_)
        if (!co_await io::wait_until(around_.world.clock, changes_, last)) break;
    if (!heir)
        co_return refuse(ErrorCode::not_permitted,
                         fmt::format("no other copy can be had to go on from than that of node "
                                     "{:016x}: connect or add a node first",
                                     node));
    CO_TRY_VOID(co_await mark_clean(*heir, true));
    const auto is_passed_over = [&] {
        if (!is_formed() || begins_anew_ || mirror_ == nullptr) return false;
        const NodeRecord* const record = mirror_->form().find(*heir);
        return record != nullptr && record->attached;
    };
    while (!is_passed_over() && !stopping_)
        if (!co_await io::wait_until(around_.world.clock, changes_, deadline)) break;
    if (is_passed_over()) co_return Outcome<>{};
    co_return refuse(
        ErrorCode::timed_out,
        fmt::format("the storage has not yet gone on from another copy: {}", obstacle()));
}

async::Task<Outcome<>> MirroredStorage::remove_node(node::Cookie node, bool force,
                                                    io::TimePoint deadline) {
    if (force && is_last_clean(node)) CO_TRY_VOID(co_await pass_over(node, deadline));
    const Command command(*this);
    co_return co_await take_out(node, deadline);
}

async::Task<Outcome<>> MirroredStorage::take_out(node::Cookie node, io::TimePoint deadline) {
    CO_TRY(const NodeRecord* const listed, record_of(node));
    const NodeRecord record = *listed;  // the table may be another one by then
    Outcome<> removed = co_await mirror_->roster().remove(node, settings_.mirror.quorum, deadline);
    if (!removed)
        co_return refuse(removed.error().code,
                         fmt::format("{} was not removed: {}", record.type, removed.error().text));
    Place* place = find(node);
    // It may not have been found since the mirror was formed anew.
    if (place == nullptr) place = find_lost(record);
    if (place != nullptr) {
        const auto is_it = [&](const MemberSpec& spec) { return spec.type == place->name(); };
        std::erase_if(settings_.members, is_it);
        std::erase_if(settings_.mirror.witnesses, is_it);
        place->leave();
        events_.wake_all();
        // Its disk may be pulled, or given to another one, when this returns.
        while (find(node) != nullptr && !stopping_ && mirror_->fenced().empty())
            if (!co_await io::wait_until(around_.world.clock, changes_, deadline)) break;
    }
    co_return Outcome<>{};
}

Outcome<> MirroredStorage::forget_place(const std::string& type) {
    const auto at = std::ranges::find_if(places_, [&](const auto& place) {
        return place->name() == type && !place->is_leaving() && !place->is_in_hand();
    });
    if (at == places_.end() || (*at)->cookie())
        return refuse(ErrorCode::not_found,
                      fmt::format("storage '{}' has no place '{}' that is no node", name(), type));
    const auto is_it = [&](const MemberSpec& spec) { return spec.type == type; };
    std::erase_if(settings_.members, is_it);
    std::erase_if(settings_.mirror.witnesses, is_it);
    (*at)->leave();
    events_.wake_all();
    return {};
}

/// Another disk stands where the node's was: it becomes that node, of which nothing is right.
async::Task<Outcome<>> MirroredStorage::replace_in_place(Place& place, NodeRecord record,
                                                         Adding adding, io::TimePoint deadline) {
    // Its link may have been refused for just that.
    if (!place.is_connected()) place.take_another_disk();
    const auto waits = [&] { return !place.is_connected() && !stopping_ && !around_.ending; };
    while (waits() && co_await io::wait_until(around_.world.clock, changes_, deadline)) {
    }
    if (!place.is_connected()) co_return refuse(ErrorCode::not_found, place.reason());
    if (place.size() != record.size)
        co_return refuse(
            ErrorCode::no_space,
            fmt::format("it has {} sectors, and the disk that was there had {}: show it under "
                        "another name, and replace the node by that",
                        place.size().value(), record.size.value()));
    place.take_in_hand(true);
    const Outcome<> fit = co_await check_newcomer(place, adding, record.cookie);
    place.become_node(record.cookie);
    place.take_in_hand(false);
    mirror_changed();
    CO_TRY_VOID(fit);
    CO_TRY_VOID(check_serving());
    if (record.is_witness) co_return Outcome<>{};
    co_return co_await mirror_->roster().distrust(record.cookie, deadline);
}

async::Task<Outcome<>> MirroredStorage::replace_node(node::Cookie node, MemberSpec spec,
                                                     Adding adding, io::TimePoint deadline) {
    const Command command(*this);
    CO_TRY(const NodeRecord* const record, record_of(node));
    if (record->attached)
        co_return refuse(
            ErrorCode::busy,
            fmt::format("{} is in sync: add {} with 'dst node add', and remove {} when that is in "
                        "sync, so that there is no copy less meanwhile",
                        record->type, spec.type, record->type));
    adding.is_witness = record->is_witness;
    if (Place* const place = find(node); place != nullptr && place->name() == spec.type)
        co_return explain(spec, "was not replaced",
                          co_await replace_in_place(*place, *record, adding, deadline));
    // All that may be refused comes first: a node less is worse than a node that is not there.
    CO_TRY(Place* const place, co_await open_newcomer(spec, adding, deadline));
    if (const Outcome<> noted = note_newcomer(*place, adding); !noted) co_return noted;
    if (const Outcome<> out = co_await take_out(node, deadline); !out) {
        place->leave();
        events_.wake_all();
        co_return out;
    }
    const Outcome<> taken = co_await take_in(*place, adding, deadline);
    co_return explain(spec, "was not added, though the other one was removed", taken);
}

// Marks -----------------------------------------------------------------------------------------

async::Task<Outcome<>> MirroredStorage::mark_dirty(node::Cookie node, bool force,
                                                   io::TimePoint deadline) {
    // Whoever is passed over is copied to as a whole.
    if (force && is_last_clean(node)) co_return co_await pass_over(node, deadline);
    const Command command(*this);
    CO_TRY(const NodeRecord* const record, record_of(node));
    const std::string type = record->type;
    Outcome<> marked = co_await mirror_->roster().distrust(node, deadline);
    if (!marked)
        co_return refuse(marked.error().code,
                         fmt::format("{} was not marked dirty: {}", type, marked.error().text));
    co_return marked;
}

async::Task<Outcome<>> MirroredStorage::mark_clean(node::Cookie node, bool force) {
    const Command command(*this);
    if (is_formed()) {
        CO_TRY(const NodeRecord* const record, record_of(node));
        if (record->is_witness) co_return refuse("a witness has no data that could be right");
        // As the status has it: an age that attaches it may be on its way.
        const auto views = mirror_->nodes();
        const auto view = std::ranges::find(views, node, &mirror::Mirror::NodeView::cookie);
        if (view != views.end() && view->state == mirror::NodeState::attached)
            co_return Outcome<>{};
        if (!force && mirror_->has_source())
            co_return refuse(ErrorCode::not_permitted,
                             fmt::format("{} lacks changes, and other nodes have them: they are "
                                         "copied to it by themselves",
                                         record->type));
        say({.force = true, .clean = node});
        begins_anew_ = true;
    } else {
        CO_TRY_VOID(overrule({.force = true, .clean = node}));
    }
    log::warning("storage {}: the copy of node {:016x} is declared to be the right one", name(),
                 node);
    events_.wake_all();
    co_return Outcome<>{};
}

Outcome<> MirroredStorage::overrule(const Overruling& overruling) {
    if (!is_started())
        return refuse(ErrorCode::busy, fmt::format("storage '{}' is stopped: start it", name()));
    if (is_formed())
        return refuse(ErrorCode::exists,
                      fmt::format("storage '{}' runs: there is nothing to overrule", name()));
    say(overruling);
    is_final_ = false;
    events_.wake_all();
    return {};
}

// Comparing -------------------------------------------------------------------------------------

Outcome<> MirroredStorage::begin_comparison(bool repair) {
    TRY_VOID(check_serving());
    if (const auto& view = mirror_->verify().view(); view && view->is_running)
        return refuse(ErrorCode::busy,
                      fmt::format("the copies of storage '{}' are being compared already", name()));
    if (is_growing_)
        return refuse(ErrorCode::busy, fmt::format("storage '{}' is growing just now", name()));
    scope_.spawn(compare(repair));
    return {};
}

async::Task<void> MirroredStorage::compare(bool repair) {
    const Command command(*this);
    static_cast<void>(co_await mirror_->verify().run(repair));  // what it found is in the status
}

// Growing ---------------------------------------------------------------------------------------

async::Task<Outcome<>> MirroredStorage::grow(io::TimePoint deadline) {
    const Command command(*this);
    CO_TRY_VOID(check_serving());
    if (is_growing_)
        co_return refuse(ErrorCode::busy, fmt::format("storage '{}' is growing already", name()));
    if (const auto& view = mirror_->verify().view(); view && view->is_running)
        co_return refuse(ErrorCode::busy,
                         fmt::format("the copies of storage '{}' are being compared: let that come "
                                     "to its end first",
                                     name()));
    struct Growing {
        MirroredStorage& storage;
        explicit Growing(MirroredStorage& of) : storage(of) { storage.is_growing_ = true; }
        ~Growing() {
            storage.is_growing_ = false;
            storage.go_on();
            storage.mirror_changed();
            storage.command_ended_.wake_all();
        }
        Growing(const Growing&) = delete;
        Growing& operator=(const Growing&) = delete;
    } const growing(*this);
    Outcome<> grown = co_await refresh_sizes(deadline);
    if (grown) {
        pause();
        if (!co_await drained_until(deadline))
            grown = refuse(ErrorCode::timed_out, "requests that are under way take too long");
        else if (grown = check_serving(); grown)
            grown = co_await mirror_->growing().grow(deadline);
    }
    if (!grown)
        co_return refuse(grown.error().code,
                         fmt::format("storage '{}' has not grown: {}", name(), grown.error().text));
    co_return grown;
}

/// Asks all nodes how large they are now, if they are all there and in sync.
async::Task<Outcome<>> MirroredStorage::refresh_sizes(io::TimePoint deadline) {
    CO_TRY_VOID(mirror_->growing().check_nodes());
    std::vector<SectorCount> ends = ends_in_force();
    for (std::size_t at = 0; at < places_.size(); ++at) {  // more may come meanwhile
        Place& place = *places_[at];
        if (!place.cookie() || place.is_witness() || place.is_leaving()) continue;
        const std::string type = place.name();
        const Outcome<> asked = co_await place.member().refresh_size(deadline);
        CO_TRY_VOID(check_serving());
        if (!asked)
            co_return refuse(asked.error().code, fmt::format("{}: {}", type, asked.error().text));
        ends.push_back(place.size());
    }
    CO_TRY_VOID(mirror_->growing().plan());
    // Before anything is written there, and as long as something may be where it is now.
    co_return note_ends(std::move(ends));
}

/// Where nodes end, or may be found, is remembered.
Outcome<> MirroredStorage::note_ends(std::vector<SectorCount> ends) {
    std::ranges::sort(ends);
    const auto twice = std::ranges::unique(ends);
    ends.erase(twice.begin(), twice.end());
    if (ends == noted_ends_) return {};
    TRY_VOID(around_.ends.note(name(), ends));
    noted_ends_ = std::move(ends);
    return {};
}

/// The same, where nothing hangs on it yet.
void MirroredStorage::remember_ends(std::vector<SectorCount> ends) {
    if (const auto noted = note_ends(std::move(ends)); !noted)
        log::warning("storage {}: where its nodes end can't be noted: {}", name(),
                     noted.error().text);
}

/// By its table.
std::vector<SectorCount> MirroredStorage::ends_in_force() const {
    std::vector<SectorCount> ends;
    for (const NodeRecord& record : mirror_->form().nodes) ends.push_back(record.size);
    return ends;
}

Outcome<> MirroredStorage::set_resync(ResyncSettings settings) {
    settings_.mirror.timing.resync_size = settings.window;
    settings_.mirror.timing.resync_timeout = settings.interval;
    if (mirror_ != nullptr) mirror_->set_resync(settings.window, settings.interval);
    return {};
}

std::optional<ResyncSettings> MirroredStorage::resync_settings() const {
    return ResyncSettings{.window = settings_.mirror.timing.resync_size,
                          .interval = std::chrono::duration_cast<std::chrono::milliseconds>(
                              settings_.mirror.timing.resync_timeout)};
}

}  // namespace dst::storage
