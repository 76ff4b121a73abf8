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

Storage::Member::Member(Storage& storage, MemberSpec spec, node::Cookie cookie)
    : storage_(storage),
      spec_(std::move(spec)),
      cookie_(cookie),
      since_(storage.around_.world.clock.wall_now()) {}

async::Task<void> Storage::Member::open() {
    if (const auto* file = std::get_if<FilePlace>(&spec_.place)) {
        co_await open_file(*file);
    } else if (const auto* memory = std::get_if<MemoryPlace>(&spec_.place)) {
        auto opened = node::open_memory(storage_.around_.world, memory->size);
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
            storage_.around_.world, storage_.around_.pool, storage_.around_.connections,
            storage_.around_.head, cookie_,
            node::RemoteSettings{.endpoint = remote.endpoint,
                                 .export_name = remote.export_name,
                                 .size_max = spec_.size_max,
                                 .replay_window = storage_.settings_.replay_window,
                                 .hold = storage_.settings_.hold});
        remote_->start(this);
        while (!is_there() && !given_up_) co_await wanted_.wait();
    }
    if (is_there()) {
        if (remote_ == nullptr) reason_ = "open";
        since_ = storage_.around_.world.clock.wall_now();
    }
    storage_.changes_.wake_all();
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

async::Task<void> Storage::Member::open_file(const FilePlace& place) {
    while (!given_up_) {
        auto opened = co_await open_durable(
            storage_.around_.world, place.path,
            {.cache = place.cache, .on_loss = [this] { storage_.lose_changes(); }});
        if (opened) {
            local_ = std::move(*opened);
            hopeless_ = false;
            co_return;
        }
        if (opened.error().text != reason_)
            log::warning("storage {}: {}: {}", storage_.name(), spec_.type, opened.error().text);
        reason_ = opened.error().text;
        // For whoever makes the storage this is an answer; for one from the configuration the
        // disk may still come.
        hopeless_ = true;
        storage_.changes_.wake_all();
        co_await io::wait_for(storage_.around_.world.clock, wanted_, kTryAgainAfter);
    }
}

async::Task<void> Storage::Member::wait_for_storage(Storage& below) {
    below_ = &below;
    storage_.is_stacked_ = true;
    while (!given_up_ && !below.is_formed()) {
        hopeless_ = !below.is_started();
        storage_.changes_.wake_all();
        co_await below.changes().wait();
    }
    hopeless_ = false;
}

void Storage::Member::give_up() {
    given_up_ = true;
    wanted_.wake_all();
    if (below_ != nullptr) below_->changes().wake_all();
}

async::Task<void> Storage::Member::close(io::TimePoint deadline, std::vector<std::string>& losses) {
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
}

bool Storage::Member::is_there() const {
    if (below_ != nullptr) return below_->is_formed();
    return device() != nullptr && device()->geometry().size.value() > 0;
}

bool Storage::Member::is_connected() const {
    if (below_ != nullptr) return below_->is_all_connected();
    return remote_ ? remote_->is_ready() && !remote_->status().silent : is_there();
}

std::size_t Storage::Member::requests_waiting() const {
    if (below_ != nullptr) return below_->requests_waiting();
    return remote_ ? remote_->status().waiting : 0;
}

block::Device* Storage::Member::device() const {
    if (below_ != nullptr) return below_;
    return remote_ ? remote_.get() : local_.get();
}

std::string Storage::Member::reason() const {
    if (remote_) return remote_->status().reason;
    if (below_ != nullptr && !below_->is_formed())
        return fmt::format("storage {} is not there: {}", below_->name(), below_->obstacle());
    if (below_ != nullptr && !below_->is_all_connected()) return below_->status().reason;
    return reason_;
}

node::Node& Storage::Member::make_node() {
    const SectorCount size = device()->geometry().size;
    placed_instance_ = device()->instance();
    node_ = std::make_unique<node::Node>(*device(), cookie_, spec_.type,
                                         std::min(size, spec_.size_max.value_or(size)));
    return *node_;
}

std::vector<std::string> Storage::Member::flags() const {
    std::vector<std::string> flags;
    if (is_connected()) flags.emplace_back("connected");
    if (!remote_) return flags;
    const node::RemoteStatus status = remote_->status();
    if (status.checksums) flags.emplace_back("checksum");
    if (status.read_only) flags.emplace_back("readonly");
    const bool known = remote_->geometry().size.value() > 0;
    if (known && !status.is_ours) flags.emplace_back("unprotected");
    if (known && !status.has_flush) flags.emplace_back("volatile");
    return flags;
}

NodeStatus Storage::Member::status() const {
    return {.cookie = cookie_,
            .type = spec_.type,
            .start = node_ ? node_->start() : SectorIndex(),
            .size = node_ ? node_->size() : SectorCount(),
            .in_sync = true,
            .connected = is_connected(),
            .stale = {},
            .reason = reason(),
            .since = remote_ ? remote_->status().since : since_,
            .flags = flags()};
}

void Storage::Member::node_ready() {
    if (node_ != nullptr && storage_.is_formed_) storage_.algorithm_->node_changed(*node_);
    wanted_.wake_all();
    storage_.changes_.wake_all();
}

void Storage::Member::node_lost() { storage_.member_lost(*this); }

}  // namespace dst::storage
