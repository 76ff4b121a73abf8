#include "storage/member.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/log.h"

namespace dst::storage {
namespace {

using namespace std::chrono_literals;
/// How often a device that could not be opened is tried again.
constexpr io::Duration kTryAgainAfter = 2s;

}  // namespace

Member::Member(Surroundings& around, const Settings& settings, MemberSpec spec, std::uint64_t key,
               Owner& owner, Watching watching)
    : around_(around),
      settings_(settings),
      spec_(std::move(spec)),
      key_(key),
      owner_(owner),
      watching_(watching),
      since_(around.world.clock.wall_now()) {}

Member::~Member() = default;

async::Task<void> Member::open() {
    struct Opening {
        Member& member;
        explicit Opening(Member& its) : member(its) { member.is_opening_ = true; }
        ~Opening() {
            member.is_opening_ = false;
            member.wanted_.wake_all();
        }
    } const opening{*this};
    if (const auto* file = std::get_if<FilePlace>(&spec_.place)) {
        co_await open_file(*file);
    } else if (const auto* memory = std::get_if<MemoryPlace>(&spec_.place)) {
        auto opened = node::open_memory(around_.world, memory->size);
        if (opened)
            local_ = std::move(*opened);
        else
            reason_ = opened.error().text;
        hopeless_ = !opened;
    } else if (const auto* below = std::get_if<StoragePlace>(&spec_.place)) {
        co_await wait_for_storage(*below->storage);
    } else {
        const auto& remote = std::get<RemotePlace>(spec_.place);
        remote_ = std::make_unique<node::Remote>(
            around_.world, around_.pool, around_.connections, around_.head, key_,
            node::RemoteSettings{.endpoint = remote.endpoint,
                                 .export_name = remote.export_name,
                                 .size_max = spec_.size_max,
                                 .replay_window = settings_.replay_window,
                                 .hold = settings_.hold,
                                 .gate = watching_.gate,
                                 .ping_each = watching_.ping_each,
                                 .silence_max = watching_.silence_max});
        remote_->start(this);
        while (!is_there() && !given_up_) co_await wanted_.wait();
    }
    if (is_there()) {
        opened_instance_ = device()->instance();
        if (remote_ == nullptr) reason_ = "open";
        since_ = around_.world.clock.wall_now();
    }
    owner_.member_changed(*this);
}

namespace {

/// What a process before this one left in a cache is seen from now on: made durable first, it can't
/// be lost later.
async::Task<Outcome<std::unique_ptr<block::Device>>> open_durable(io::World& world,
                                                                  std::string path,
                                                                  node::LocalSettings settings) {
    CO_TRY(auto device, co_await node::open_file(world, path, std::move(settings)));
    block::Request request{.op = block::Op::flush};
    if (const auto done = co_await device->execute(request); !done)
        co_return refuse(done.error().code, fmt::format("flushing {} failed: {}; it is tried again",
                                                        path, to_string(done.error().code)));
    co_return device;
}

}  // namespace

async::Task<void> Member::open_file(const FilePlace& place) {
    while (!given_up_) {
        auto opened = co_await open_durable(
            around_.world, place.path,
            {.cache = place.cache, .on_loss = [this] { owner_.member_lost_changes(*this); }});
        if (opened) {
            local_ = std::move(*opened);
            hopeless_ = false;
            co_return;
        }
        if (opened.error().text != reason_)
            log::warning("storage {}: {}: {}", settings_.name, spec_.type, opened.error().text);
        reason_ = opened.error().text;
        // For whoever makes the storage this is an answer; for one from the configuration the
        // disk may still come.
        hopeless_ = true;
        owner_.member_changed(*this);
        co_await io::wait_for(around_.world.clock, wanted_, kTryAgainAfter);
    }
}

async::Task<void> Member::wait_for_storage(Storage& below) {
    below_ = &below;
    while (!given_up_ && !below.is_formed()) {
        hopeless_ = !below.is_started();
        owner_.member_changed(*this);
        co_await below.changes().wait();
    }
    hopeless_ = false;
}

async::Task<Outcome<>> Member::refresh_size(io::TimePoint deadline) {
    CHECK(is_there());
    const Result<> asked =
        remote_ ? co_await remote_->look_anew(deadline) : co_await device()->refresh_size();
    if (!asked)
        co_return refuse(asked.error().code,
                         fmt::format("it does not say how large it is: {}", reason()));
    co_return Outcome<>{};
}

void Member::give_up() {
    given_up_ = true;
    wanted_.wake_all();
    if (below_ != nullptr) below_->changes().wake_all();
}

async::Task<void> Member::close(io::TimePoint deadline, std::vector<std::string>& losses) {
    if (std::exchange(is_closing_, true)) {
        while (!is_closed_) co_await wanted_.wait();
        co_return;
    }
    give_up();
    while (is_opening_) co_await wanted_.wait();
    if (remote_) {
        const ByteCount dropped = co_await remote_->stop(deadline);
        if (dropped.value() > 0)
            losses.push_back(fmt::format("{} bytes of changes may not be durable on {}",
                                         dropped.value(), spec_.type));
    } else if (local_) {
        block::Request request{.op = block::Op::flush};
        if (const auto done = co_await local_->execute(request); !done)
            losses.push_back(
                fmt::format("flushing {} failed: {}", spec_.type, to_string(done.error().code)));
    }
    is_closed_ = true;
    wanted_.wake_all();
}

bool Member::is_there() const {
    if (below_ != nullptr) return below_->is_formed();
    return device() != nullptr && device()->geometry().size.value() > 0;
}

bool Member::is_connected() const {
    if (below_ != nullptr) return below_->is_all_connected();
    return remote_ ? remote_->is_ready() && !remote_->status().silent : is_there();
}

std::size_t Member::requests_waiting() const {
    if (below_ != nullptr) return below_->requests_waiting();
    return remote_ ? remote_->status().waiting : 0;
}

block::Device* Member::device() const {
    if (below_ != nullptr) return below_;
    return remote_ ? remote_.get() : local_.get();
}

std::string Member::reason() const {
    if (remote_) return remote_->status().reason;
    if (below_ != nullptr && !below_->is_formed())
        return fmt::format("storage {} is not there: {}", below_->name(), below_->obstacle());
    if (below_ != nullptr && !below_->is_all_connected()) return below_->status().reason;
    return reason_;
}

SectorCount Member::size() const {
    const SectorCount size = device()->geometry().size;
    return std::min(size, spec_.size_max.value_or(size));
}

io::WallTime Member::since() const { return remote_ ? remote_->status().since : since_; }

std::vector<std::string> Member::flags() const {
    std::vector<std::string> flags;
    if (is_connected()) flags.emplace_back("connected");
    if (!remote_) return flags;
    const node::RemoteStatus status = remote_->status();
    if (status.fenced) flags.emplace_back("fenced");
    if (status.checksums) flags.emplace_back("checksum");
    if (status.read_only) flags.emplace_back("readonly");
    const bool known = remote_->geometry().size.value() > 0;
    if (known && !status.is_ours) flags.emplace_back("unprotected");
    if (known && !status.has_flush) flags.emplace_back("volatile");
    return flags;
}

void Member::node_ready() {
    owner_.member_ready(*this);
    wanted_.wake_all();
    owner_.member_changed(*this);
}

void Member::node_lost() {
    owner_.member_lost(*this);
    owner_.member_changed(*this);
}

NodeMeasures Member::measures(node::Cookie cookie) const {
    NodeMeasures measures{.cookie = cookie};
    if (remote_) {
        const node::RemoteStatus status = remote_->status();
        measures.remote = &remote_->measures();
        // The first connection is none that was lost before.
        measures.reconnects = status.reconnects - std::min<std::uint64_t>(status.reconnects, 1);
        measures.replayed = status.replayed;
    } else if (const auto* const file = dynamic_cast<const node::FileDevice*>(local_.get())) {
        measures.disk = file->file().times();
    }
    return measures;
}

}  // namespace dst::storage
