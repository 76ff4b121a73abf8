#include "storage/mirrored.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "base/check.h"
#include "base/log.h"

namespace dst::storage {
namespace {

using namespace std::chrono_literals;
using metadata::Cookie;
using metadata::Form;
using metadata::NodeRecord;

/// What may pass by itself is looked at again after this time, if nothing tells of a change.
constexpr io::Duration kLookAgainAfter = 1s;
/// How long a node may take to say how large it is, before another one is looked at.
constexpr io::Duration kAnswerMax = 3s;
/// How long what a person forces counts: he has seen what it overrides now, not what may come.
constexpr io::Duration kForceMax = 60s;
/// Places that are not there yet are waited for a moment, lest the first ones that come decide.
constexpr io::Duration kGatherAtStart = 500ms;

std::uint64_t draw(io::Random& random) {
    std::uint64_t drawn = 0;
    while (drawn == 0) drawn = random.next();
    return drawn;
}

std::size_t slabs(std::size_t bytes) { return (bytes + block::kSlabBytes - 1) / block::kSlabBytes; }

// A silent node may keep of the one what is written to it; of the other, one piece at a time is
// enough.
std::size_t metadata_slabs(std::size_t nodes) {
    return slabs(mirror::Memory::metadata_bytes(nodes));
}
constexpr std::size_t kCopiesSlabsMin = 1;

}  // namespace

std::size_t slabs_of_mirror(std::size_t nodes) { return metadata_slabs(nodes) + kCopiesSlabsMin; }

MirroredStorage::MirroredStorage(Surroundings& around, Settings settings)
    : Storage(around, std::move(settings)) {
    settings_.mirror.timing.name = settings_.name;
    settings_.mirror.timing.hold = settings_.hold;
    settings_.mirror.timing.takeover = settings_.mirror.takeover;
}

MirroredStorage::~MirroredStorage() = default;

// Starting --------------------------------------------------------------------------------------

Outcome<> MirroredStorage::start(const Overruling& overruling) {
    CHECK(!is_started());
    if (!settings_.options.empty())
        return refuse(fmt::format("algorithm mirror has no option \"{}\": it takes none",
                                  settings_.options.front().first));
    const std::size_t nodes = settings_.members.size();
    if (nodes == 0 || nodes > metadata::kNodesMax)
        return refuse(
            fmt::format("a mirror has 1 to {} nodes, not {}", metadata::kNodesMax, nodes));
    TRY_VOID(around_.pool.can_promise(slabs_of_mirror(nodes)));
    TRY(auto metadata_memory, around_.pool.share(metadata_slabs(nodes), metadata_slabs(nodes)));
    TRY(auto copies_memory,
        around_.pool.share(slabs(mirror::Memory::kCopiesBytes), kCopiesSlabsMin));
    metadata_memory_ = std::move(metadata_memory);
    copies_memory_ = std::move(copies_memory);
    stopping_ = is_final_ = was_fenced_ = begins_anew_ = false;
    say(overruling);
    left_.reset();
    is_started_ = true;
    reason_ = "its nodes are being opened";
    since_ = around_.world.clock.wall_now();
    noted_ends_ = around_.ends.recall(name());
    Member::Owner& owner = *this;
    const Place::Judge& judges = *this;
    const auto add = [&](const MemberSpec& spec, bool is_witness) {
        places_.push_back(std::make_unique<Place>(around_, settings_, spec, is_witness, owner,
                                                  judges, *metadata_memory_));
        scope_.spawn(places_.back()->member().open());
    };
    for (const MemberSpec& spec : settings_.members) add(spec, false);
    for (const MemberSpec& spec : settings_.mirror.witnesses) add(spec, true);
    scope_.spawn(run());
    return {};
}

async::Task<void> MirroredStorage::run() {
    const io::TimePoint begun = around_.world.clock.now();
    const auto all_there = [&] {
        return std::ranges::all_of(places_,
                                   [](const auto& place) { return place->is_connected(); });
    };
    while (!all_there() && !stopping_ &&
           co_await io::wait_until(around_.world.clock, events_, begun + kGatherAtStart)) {
    }
    bool was_hurried = false;
    while (!stopping_) {
        co_await assemble();
        if (stopping_) break;
        if (mirror_ != nullptr && mirror_->is_serving()) {
            become_formed();
            log::info("storage {}: running, {} sectors", name(), geometry().size.value());
            co_await serve();
            if (stopping_) break;
            was_fenced_ = !mirror_->fenced().empty();
            note(was_fenced_ ? fmt::format("fenced: {}", mirror_->fenced())
                             : "it is formed anew, as a person has said",
                 false);
            begins_anew_ = false;
            if (!was_fenced_) {
                mirror_->end();  // no age is sent after the one that is noted
                left_ = mirror_->newest_form();
            }
            become_unformed();
            co_await take_down(around_.world.clock.now());
            co_await release_all();
            for (const auto& place : places_) place->begin_anew();
            continue;
        }
        // Nothing is used here: whoever took a node from this head may have let it go.
        for (const auto& place : places_)
            if (place->is_taken()) place->begin_anew();
        // At once for who came while others were claimed; but not round and round.
        was_hurried = std::exchange(looks_again_, false) && !was_hurried;
        if (!was_hurried) co_await io::wait_for(around_.world.clock, events_, kLookAgainAfter);
    }
}

void MirroredStorage::note(std::string reason, bool is_final) {
    if (reason != reason_) log::info("storage {}: {}", name(), reason);
    reason_ = std::move(reason);
    is_final_ = is_final;
    changes_.wake_all();
}

void MirroredStorage::say(const Overruling& overruling) {
    overruling_ = overruling;
    overruling_until_ = around_.world.clock.now() + kForceMax;
}

async::Task<metadata::Situation> MirroredStorage::look() {
    metadata::Situation situation{.storage_name = name(), .head_id = around_.head.id};
    // Nodes that have grown have their superblocks where they ended before.
    std::vector<SectorCount> sizes = noted_ends_;
    for (int round = 0; round < 2; ++round) {
        situation.places.clear();
        for (std::size_t at = 0; at < places_.size(); ++at)
            situation.places.push_back(co_await places_[at]->look(sizes));
        if (round > 0) break;
        for (const metadata::Place& seen : situation.places)
            if (const auto* superblock = std::get_if<metadata::Superblock>(&seen.seen))
                for (const NodeRecord& record : superblock->form.nodes)
                    if (std::ranges::find(sizes, record.size) == sizes.end())
                        sizes.push_back(record.size);
        const bool is_complete =
            std::ranges::none_of(situation.places, [](const metadata::Place& seen) {
                return std::holds_alternative<metadata::Unreadable>(seen.seen);
            });
        if (is_complete || sizes.empty()) break;
    }
    note_ends_of(situation);
    if (overruling_.force && around_.world.clock.now() >= overruling_until_) {
        log::warning(
            "storage {}: what was said by force could not be done in {} s, and counts no more",
            name(), kForceMax / 1s);
        overruling_ = {.keep = overruling_.keep, .is_there = overruling_.is_there};
    }
    situation.force = overruling_.force;
    situation.keep = overruling_.keep;
    situation.clean = overruling_.clean;
    situation.left = left_;
    co_return situation;
}

/// Who waits remembers, too: his turn may come when all of them have grown.
void MirroredStorage::note_ends_of(const metadata::Situation& situation) {
    std::vector<SectorCount> ends;
    for (const metadata::Place& seen : situation.places)
        if (const auto* superblock = std::get_if<metadata::Superblock>(&seen.seen);
            superblock != nullptr && superblock->form.name == name())
            for (const NodeRecord& record : superblock->form.nodes) ends.push_back(record.size);
    if (!ends.empty()) remember_ends(std::move(ends));
}

namespace {

/// The places that a decision would use, in their order; none unless it is to begin.
std::vector<std::size_t> taking_part(const metadata::Decision& decision, std::size_t places) {
    std::vector<std::size_t> part;
    if (std::holds_alternative<metadata::Create>(decision)) {
        for (std::size_t at = 0; at < places; ++at) part.push_back(at);
    } else if (const auto* start = std::get_if<metadata::Start>(&decision)) {
        for (const metadata::Member& member : start->sources) part.push_back(member.place);
        for (const metadata::Joiner& joiner : start->joiners) part.push_back(joiner.member.place);
        for (const metadata::Member& witness : start->witnesses) part.push_back(witness.place);
    }
    std::ranges::sort(part);
    return part;
}

}  // namespace

/// Once through: looks, and makes the storage or takes it over if that may be.
async::Task<void> MirroredStorage::assemble() {
    metadata::Decision decision = metadata::decide(co_await look());
    if (stopping_) co_return;
    const auto wanted = taking_part(decision, places_.size());
    if (!wanted.empty()) {
        if (std::holds_alternative<metadata::Create>(decision)) {
            if (const auto fit = check_places(); !fit) {
                note(fit.error().text, true);
                co_return;
            }
        }
        // Rule 9: only then are the reservations claimed, of those that would take part, and all of
        // it is looked at again. A node that another head has is left to it.
        if (!co_await claim(wanted, overruling_.force)) {
            co_await release_all();
            co_return;
        }
        // Whoever had them before may have let them grow: a connection from before that doesn't
        // reach their ends, and where they ended is what was the truth then.
        if (!co_await refresh_sizes(wanted)) {
            co_await release_all();
            co_return;
        }
        decision = metadata::decide(co_await look());
        if (stopping_) co_return;
        // One that was not connected while the others were claimed is anybody's.
        const auto is_claimed = [this](std::size_t at) { return places_[at]->is_claimed(); };
        const auto part = taking_part(decision, places_.size());
        if (!std::ranges::includes(wanted, part) || !std::ranges::all_of(part, is_claimed)) {
            note("looks again: a node has come meanwhile", false);
            looks_again_ = true;
            co_await release_all();
            co_return;
        }
    }
    if (overruling_.is_there && std::holds_alternative<metadata::Create>(decision)) {
        note("its nodes are blank: 'dst storage create' makes a new storage of them", true);
    } else if (const auto* wait = std::get_if<metadata::Wait>(&decision)) {
        note(wait->reason, false);
    } else if (const auto* refuse = std::get_if<metadata::Refuse>(&decision)) {
        note(refuse->reason, true);
    } else {
        const Outcome<> done = std::holds_alternative<metadata::Create>(decision)
                                   ? co_await make()
                                   : co_await take_over(std::get<metadata::Start>(decision));
        if (done) {
            overruling_ = {};
            left_.reset();
            for (const auto& place : places_) place->note_broken(false);
            co_return;
        }
        note(done.error().text, false);
        if (const auto broken = mirror_ != nullptr ? mirror_->broken() : std::nullopt)
            if (Place* const place = find(*broken)) place->note_broken(true);
        co_await take_down(around_.world.clock.now());
    }
    co_await release_all();
}

/// Those of `places_` that are connected; false if one of them can't be had.
async::Task<bool> MirroredStorage::claim(const std::vector<std::size_t>& wanted, bool by_force) {
    for (const std::size_t at : wanted) {
        Place& place = *places_[at];
        if (!place.is_connected()) continue;
        if (const Outcome<> claimed = co_await place.claim(by_force); !claimed) {
            note(fmt::format("waits for {}: {}", place.name(), claimed.error().text), false);
            co_return false;
        }
    }
    co_return true;
}

/// Of those that are connected, all at once; false if one does not say how large it is.
async::Task<bool> MirroredStorage::refresh_sizes(const std::vector<std::size_t>& wanted) {
    std::string failed;
    async::Scope asking;
    for (const std::size_t at : wanted)
        if (places_[at]->is_connected()) asking.spawn(refresh_place(*places_[at], failed));
    co_await asking.join();
    if (!failed.empty()) note("waits for " + failed, false);
    co_return failed.empty() && !stopping_;
}

async::Task<void> MirroredStorage::refresh_place(Place& place, std::string& failed) {
    const io::TimePoint deadline = around_.world.clock.now() + kAnswerMax;
    const Outcome<> asked = co_await place.member().refresh_size(deadline);
    if (!asked) failed = fmt::format("{}: {}", place.name(), asked.error().text);
}

async::Task<void> MirroredStorage::release_all() {
    for (std::size_t at = 0; at < places_.size(); ++at) co_await places_[at]->release();
}

void MirroredStorage::make_mirror(Form form) {
    mirror::Owner& owner = *this;
    mirror_ = std::make_unique<mirror::Mirror>(
        around_.world, mirror::Memory{*metadata_memory_, *copies_memory_},
        metadata::Head{.id = around_.head.id, .incarnation = around_.head.incarnation},
        settings_.mirror.timing, std::move(form), owner);
    for (const auto& place : places_) {
        if (!place->cookie()) continue;
        if (mirror_->form().find(*place->cookie()) != nullptr)
            mirror_->found(*place->cookie(), *place, place->is_local());
        else
            place->forget_node();  // it was removed: a place as any other that is no node
    }
}

/// Whether a new storage can be made of the places.
Outcome<> MirroredStorage::check_places() const {
    for (const auto& place : places_)
        if (place->block_bytes() > metadata::kPageBytes)
            return refuse(ErrorCode::invalid,
                          fmt::format("{} has blocks of {} bytes, and a node's are at most {}",
                                      place->name(), place->block_bytes(), metadata::kPageBytes));
    for (const auto& place : places_)
        for (const auto& other : places_)
            if (place != other && place->instance() != 0 && place->instance() == other->instance())
                return refuse(ErrorCode::invalid,
                              fmt::format("{} and {} are the same disk, by two ways, and no copies "
                                          "of each other: name two disks",
                                          place->name(), other->name()));
    TRY_VOID(shape_of_places());
    return {};
}

/// What a new storage can be, by the sizes of the places.
Outcome<metadata::Shape> MirroredStorage::shape_of_places() const {
    std::vector<SectorCount> sizes;
    const Place* smallest = nullptr;
    for (const auto& place : places_) {
        if (place->is_witness()) {
            if (const auto fits = metadata::check_witness_size(place->size()); !fits)
                return refuse(fits.error().code,
                              fmt::format("{}: {}", place->name(), fits.error().text));
            continue;
        }
        sizes.push_back(place->size());
        if (smallest == nullptr || place->size() < smallest->size()) smallest = place.get();
    }
    auto shape = metadata::plan_shape(sizes);
    if (!shape && shape.error().code == ErrorCode::no_space)
        return refuse(ErrorCode::no_space,
                      fmt::format("{}: {} (with metadata and at least one region of data); name a "
                                  "larger one",
                                  smallest->name(), shape.error().text));
    return shape;
}

/// The first age of a new storage, out of the places as they are configured.
Outcome<Form> MirroredStorage::new_form() const {
    Form form;
    io::Random& random = around_.world.random;
    for (std::byte& byte : form.storage_id.bytes) byte = static_cast<std::byte>(random.next());
    form.storage_id.bytes[0] |= std::byte{1};  // never 0
    form.name = name();
    form.algorithm = settings_.algorithm;
    form.history = metadata::first_history(draw(random));
    form.votes_since = form.history.age;
    form.takeover = settings_.mirror.takeover;
    form.head = {.id = around_.head.id, .incarnation = around_.head.incarnation};
    form.is_forming = true;
    std::uint8_t slot = 0;
    for (const auto& place : places_) {
        NodeRecord record{.cookie = draw(random),
                          .size = place->size(),
                          .is_witness = place->is_witness(),
                          .instance = place->instance(),
                          .type = metadata::cut_type(place->name())};
        record.has_vote = place->can_vote();
        if (!place->is_witness()) {
            record.slot = slot++;
            record.attached = settings_.mirror.init != mirror::Init::adopt || record.slot == 0;
        }
        form.nodes.push_back(std::move(record));
    }
    for (const auto& place : places_)
        if (!place->is_witness())
            form.block_bytes = std::max(form.block_bytes, place->block_bytes());
    TRY(form.shape, shape_of_places());
    form.quorum = settings_.mirror.quorum.value_or(form.votes() >= 3 ? metadata::Quorum::majority
                                                                     : metadata::Quorum::none);
    if (const char* const broken = metadata::broken_rule(form))
        return refuse(fmt::format("a storage can't be made of this: {}", broken));
    return form;
}

async::Task<Outcome<>> MirroredStorage::make() {
    CO_TRY(Form form, new_form());
    log::info("storage {}: being made: {} sectors on {} nodes", name(),
              form.shape.data_size.value(), form.nodes.size());
    for (std::size_t at = 0; at < places_.size(); ++at)
        places_[at]->become_node(form.nodes[at].cookie);
    make_mirror(std::move(form));
    co_return co_await mirror_->create(settings_.mirror.init);
}

async::Task<Outcome<>> MirroredStorage::take_over(const metadata::Start& start) {
    std::vector<Cookie> attached;
    std::vector<Cookie> others;
    for (const metadata::Member& source : start.sources) {
        const bool is_broken = places_[source.place]->is_broken();
        // Each of them has the bitmaps, also those that are attached from the start.
        if (!attached.empty()) others.push_back(source.cookie);
        if (attached.empty() || (start.base.stopped_cleanly && !is_broken))
            attached.push_back(source.cookie);
    }
    for (const metadata::LeftOut& left : start.left_out)
        log::warning("storage {}: left out: {}", name(), left.reason);
    for (const metadata::Obstacle& obstacle : start.overridden)
        log::warning("storage {}: by force, although {}", name(), obstacle.text);
    const metadata::Head head{.id = around_.head.id, .incarnation = around_.head.incarnation};
    Form first = metadata::first_form(start, attached, draw(around_.world.random), head);
    first.takeover = settings_.mirror.takeover;
    make_mirror(start.base);
    mirror::Takeover takeover{.first = std::move(first),
                              .source = attached.front(),
                              .others = std::move(others),
                              .is_declared = start.is_declared};
    for (const metadata::Joiner& joiner : start.joiners)
        if (joiner.is_all_stale) takeover.given_up.push_back(joiner.member.cookie);
    std::ranges::copy(start.given_up_witnesses, std::back_inserter(takeover.given_up));
    co_return co_await mirror_->assemble(std::move(takeover));
}

// Serving ---------------------------------------------------------------------------------------

/// Until the mirror is fenced, or is to stop, or to begin anew. Places that come are given to it.
async::Task<void> MirroredStorage::serve() {
    const auto goes_on = [&] { return !stopping_ && !begins_anew_ && mirror_->fenced().empty(); };
    while (goes_on()) {
        const std::uint64_t seen = events_count_;
        if (!is_growing_) remember_ends(ends_in_force());
        co_await find_nodes();
        co_await close_those_that_left();
        if (!goes_on()) break;
        // Who came while another one was looked at is not forgotten.
        if (seen != events_count_) continue;
        if (std::ranges::any_of(places_, [](const auto& place) {
                // Nobody tells when the last request to one that leaves has ended.
                return place->is_leaving() || (place->is_connected() && place->has_failed_look());
            }))
            co_await io::wait_for(around_.world.clock, events_, kLookAgainAfter);
        else
            co_await events_.wait();
    }
}

/// Who was not there when it was assembled.
async::Task<void> MirroredStorage::find_nodes() {
    for (std::size_t at = 0; at < places_.size(); ++at) {  // more may come meanwhile
        Place& place = *places_[at];
        if (place.cookie() || place.is_leaving() || place.is_in_hand()) continue;
        // The mirror does not know it, so nothing is used here: whoever took it may have let it go.
        if (place.is_taken()) place.begin_anew();
        if (!place.is_to_be_looked_at()) continue;
        std::vector<SectorCount> sizes = noted_ends_;
        for (const NodeRecord& record : mirror_->form().nodes) sizes.push_back(record.size);
        const metadata::Place seen = co_await place.look(std::move(sizes));
        if (stopping_ || !mirror_->fenced().empty()) co_return;
        if (place.is_in_hand()) continue;
        Cookie cookie = place.cookie().value_or(0);
        if (is_new_node(place, seen, cookie)) {
            place.become_node(cookie);
        } else if (cookie == 0 || other_place_of(place) != nullptr ||
                   mirror_->form().find(cookie) == nullptr ||
                   std::get<metadata::Superblock>(seen.seen).form.storage_id !=
                       mirror_->form().storage_id) {
            const std::string why = why_no_node(place, seen);
            place.forget_node();
            if (place.note_stranger(why))
                log::warning("storage {}: {} {}", name(), place.name(), why);
            continue;
        }
        place.note_stranger({});
        mirror_->found(cookie, place, place.is_local());
    }
}

std::string MirroredStorage::why_no_node(const Place& place, const metadata::Place& seen) const {
    // What the other one has sent, and not made durable, nobody would send again.
    if (const Place* const other = other_place_of(place))
        return fmt::format(
            "is node {:016x}, which is at {} already: the same disk by two ways, or a copy of it; "
            "name it once",
            *place.cookie(), other->name());
    const auto* const unreadable = std::get_if<metadata::Unreadable>(&seen.seen);
    const NodeRecord* const lost = lost_at(place.name());
    if (lost != nullptr && unreadable != nullptr) {
        const bool is_blank = unreadable->kind == metadata::Unreadable::Kind::blank;
        return fmt::format(
            "{}, and node {:016x} was there: put that disk back, or let this one take its place: "
            "dst node replace {} {:016x} '{}'{}",
            metadata::to_string(*unreadable), lost->cookie, name(), lost->cookie, place.name(),
            is_blank ? "" : " --force");
    }
    return metadata::stranger(mirror_->form(), seen);
}

/// The node of the table that was at a place of that name, and is nowhere now; null: none.
const NodeRecord* MirroredStorage::lost_at(const std::string& type) const {
    for (const NodeRecord& record : mirror_->form().nodes)
        if (record.type == metadata::cut_type(type) && find(record.cookie) == nullptr)
            return &record;
    return nullptr;
}

/// Another one that has been found to be the same node; null: none.
const Place* MirroredStorage::other_place_of(const Place& place) const {
    for (const auto& other : places_)
        if (other.get() != &place && place.cookie() && other->cookie() == place.cookie())
            return other.get();
    return nullptr;
}

/// It was added, and has not got its first superblock yet: the table has one that nobody has seen,
/// for this place, and of which nothing is right.
bool MirroredStorage::is_new_node(const Place& place, const metadata::Place& seen,
                                  Cookie& cookie) const {
    const auto* const unreadable = std::get_if<metadata::Unreadable>(&seen.seen);
    if (unreadable == nullptr || unreadable->kind != metadata::Unreadable::Kind::blank)
        return false;
    for (const NodeRecord& record : mirror_->form().nodes) {
        if (record.type != metadata::cut_type(place.name()) || record.size != place.size() ||
            record.is_witness != place.is_witness() || find(record.cookie) != nullptr ||
            !mirror_->lacks_all(record.cookie))
            continue;
        cookie = record.cookie;
        return true;
    }
    return false;
}

/// Places of nodes that were removed, once the mirror does not use them any more.
async::Task<void> MirroredStorage::close_those_that_left() {
    for (std::size_t at = 0; at < places_.size();) {
        Place& place = *places_[at];
        if (!place.is_leaving() ||
            (place.cookie() && !mirror_->roster().is_gone(*place.cookie()))) {
            ++at;
            continue;
        }
        if (place.cookie()) mirror_->lost(*place.cookie());
        co_await place.release();
        std::vector<std::string> losses;  // none that count: it is no node any more
        co_await place.member().close(around_.world.clock.now(), losses);
        if (stopping_) co_return;  // who stops it goes through the places
        std::erase_if(places_, [&](const auto& each) { return each.get() == &place; });
        at = 0;
        changes_.wake_all();
    }
}

Outcome<> MirroredStorage::judge(const metadata::Reading& found) const {
    if (mirror_ == nullptr) return {};
    // What is being made has perhaps not been written yet.
    if (!found && mirror_->form().is_forming) return {};
    if (!found) return refuse(fmt::format("it {}", metadata::to_string(found.error())));
    switch (metadata::admit(mirror_->newest_form(), *found)) {
        case metadata::Admission::joins:
            return {};
        case metadata::Admission::is_newer:
        case metadata::Admission::is_diverged:
            return refuse("another head has written to it meanwhile");
        case metadata::Admission::is_no_member:
        case metadata::Admission::is_foreign:
            return refuse("it is no node of this storage any more");
    }
    check_failed("a known admission", __FILE__, __LINE__);
}

void MirroredStorage::member_changed(Member& member) {
    if (Place* const place = find(member);
        mirror_ != nullptr && place != nullptr && place->cookie())
        mirror_->backing_changed(*place->cookie());
    mirror_changed();
}

void MirroredStorage::mirror_changed() {
    ++events_count_;
    events_.wake_all();
    changes_.wake_all();
}

bool MirroredStorage::remembers_others() const {
    return std::ranges::any_of(places_, [](const auto& place) {
        return !place->cookie() && !place->is_leaving() && place->may_hold_an_age();
    });
}

Place* MirroredStorage::find(const Member& member) const {
    for (const auto& place : places_)
        if (&place->member() == &member) return place.get();
    return nullptr;
}

Place* MirroredStorage::find(Cookie cookie) const {
    for (const auto& place : places_)
        if (place->cookie() == cookie) return place.get();
    return nullptr;
}

block::Geometry MirroredStorage::geometry() const {
    return is_formed() ? mirror_->geometry() : block::Geometry{};
}

async::Task<Result<>> MirroredStorage::perform(block::Request& request) {
    return mirror_->execute(request);
}

// Stopping --------------------------------------------------------------------------------------

async::Task<void> MirroredStorage::take_down(io::TimePoint /*deadline*/) {
    if (mirror_ == nullptr) co_return;
    mirror_->end();
    // What waits there fails, so that everybody gets out.
    for (const auto& place : places_) place->drop();
    co_await drained();
    co_await commands_ended();
    co_await mirror_->join();
    mirror_.reset();
}

async::Task<void> MirroredStorage::commands_ended() {
    while (commands_ > 0) co_await command_ended_.wait();
}

async::Task<Outcome<>> MirroredStorage::stop(io::TimePoint deadline) {
    stopping_ = true;
    events_.wake_all();
    std::vector<std::string> losses;
    const bool was_formed = is_formed();
    if (mirror_ != nullptr && was_formed) {
        const io::TimePoint now = around_.world.clock.now();
        const io::TimePoint last = now + (deadline - now) * 7 / 8;
        mirror_->hurry();
        mirror_->growing().give_up();
        go_on();
        while (is_growing_)
            if (!co_await io::wait_until(around_.world.clock, command_ended_, last)) break;
        if (!is_growing_ && co_await drained_until(last) && co_await mirror_->finish(last))
            co_await release_all();
        else
            losses.push_back("not all that was asked could be done: it is as after a crash");
    }
    if (mirror_ != nullptr) mirror_->end();
    {
        std::vector<std::string> dropped;  // said above, if anything was lost
        async::Scope closing;
        for (auto& place : places_) closing.spawn(place->member().close(deadline, dropped));
        co_await closing.join();
    }
    events_.wake_all();
    changes_.wake_all();
    co_await scope_.join();
    co_await drained();
    co_await commands_ended();
    if (mirror_ != nullptr) co_await mirror_->join();
    if (was_formed) log::info("storage {}: stopped", name());
    become_unformed();
    mirror_.reset();
    places_.clear();
    metadata_memory_.reset();
    copies_memory_.reset();
    is_started_ = false;
    changes_.wake_all();
    if (losses.empty()) co_return Outcome<>{};
    log::warning("storage {}: stopped, but {}", name(), losses.front());
    co_return refuse(ErrorCode::io_error,
                     fmt::format("storage '{}' is stopped, but {}", name(), losses.front()));
}

void MirroredStorage::hurry() {
    if (!stopping_) return;
    if (mirror_ != nullptr) mirror_->end();
    for (auto& place : places_) place->member().hurry();
}

void MirroredStorage::abandon() {
    if (mirror_ != nullptr) mirror_->end();
    for (auto& place : places_) place->member().abandon();
}

}  // namespace dst::storage
