#include "attach/nbd_attachment.h"

#include <fmt/format.h>

#include <array>

#include "attach/flushing.h"
#include "base/check.h"
#include "base/log.h"
#include "io/uring/block_claim.h"
#include "io/uring/socket_pair.h"
#include "nbd/client_handshake.h"
#include "nbd/receive_buffer.h"

namespace dst::attach {
namespace {

/// The kernel waits for the daemon's next life for ever; it can't be told so, but this.
constexpr std::chrono::hours kReconnectMax{24 * 365 * 10};
/// How long requests and a flush may take before a detach is refused.
constexpr std::chrono::milliseconds kQuietMax{1500};
constexpr std::chrono::milliseconds kReconnectPause{100};

/// The client's side, up to where the kernel goes on. It speaks simple replies alone.
async::Task<Outcome<nbd::ServerFacts>> shake_hands(io::Stream& stream, std::string name) {
    nbd::ClientHandshake handshake({.export_name = std::move(name),
                                    .structured_replies = false,
                                    .base_allocation = false,
                                    .block_size = true,
                                    .hello = {},
                                    .list = false});
    std::array<std::byte, 4096> buffer{};
    std::size_t filled = 0;
    while (handshake.state() == nbd::ClientHandshake::State::reading) {
        if (!handshake.output().empty()) {
            if (const auto sent = co_await io::send_all(stream, handshake.output()); !sent)
                co_return refuse(sent.error().code, "the connection to the kernel broke");
            handshake.output_sent();
            continue;
        }
        const std::size_t used = handshake.feed(std::span(buffer).first(filled));
        std::copy(buffer.begin() + static_cast<std::ptrdiff_t>(used),
                  buffer.begin() + static_cast<std::ptrdiff_t>(filled), buffer.begin());
        filled -= used;
        if (used > 0) continue;
        io::Slice rest(std::span(buffer).subspan(filled));
        const auto received = co_await stream.receive(std::span(&rest, 1));
        if (!received || *received == 0)
            co_return refuse(ErrorCode::node_lost, "the session for the kernel ended");
        filled += *received;
    }
    CHECK(filled == 0);
    if (handshake.state() != nbd::ClientHandshake::State::done)
        co_return std::unexpected(handshake.failure());
    co_return handshake.result();
}

}  // namespace

std::string owner_name(const std::string& name) { return "dst:" + name; }

/// The device, with a look at how much it has to do.
class NbdAttachment::Counted final : public block::Device {
  public:
    explicit Counted(block::Device& device) : device_(device) {}
    [[nodiscard]] block::Geometry geometry() const override { return device_.geometry(); }
    [[nodiscard]] std::uint64_t instance() const override { return device_.instance(); }
    [[nodiscard]] std::uint64_t identity() const override { return device_.identity(); }
    async::Task<Result<>> execute(block::Request& request) override {
        ++waiting_;
        const Result<> done = co_await device_.execute(request);
        if (--waiting_ == 0) became_idle_.wake_all();
        co_return done;
    }
    [[nodiscard]] std::size_t waiting() const { return waiting_; }
    /// True when nothing waits, false at `deadline`. Suspends.
    async::Task<bool> idle(io::Clock& clock, io::TimePoint deadline) {
        while (waiting_ > 0)
            if (!co_await io::wait_until(clock, became_idle_, deadline)) break;
        co_return waiting_ == 0;
    }

  private:
    block::Device& device_;
    std::size_t waiting_ = 0;
    async::WaitQueue became_idle_;
};

class NbdAttachment::Client final : public nbd::Served {
  public:
    explicit Client(NbdAttachment& attachment) : attachment_(attachment) {}
    block::Device& device() override { return *attachment_.device_; }
    block::Account& account() override { return attachment_.shown_.account; }
    [[nodiscard]] nbd::ExportInfo info() const override { return attachment_.info(); }

  private:
    NbdAttachment& attachment_;
};

NbdAttachment::NbdAttachment(io::uring::Reactor& reactor, io::uring::HelperThreads& threads,
                             Spec spec, Shown shown)
    : reactor_(reactor),
      threads_(threads),
      world_(reactor.world()),
      spec_(std::move(spec)),
      shown_(shown),
      device_(std::make_unique<Counted>(shown.device)) {}

NbdAttachment::~NbdAttachment() { CHECK(sessions_.empty()); }

/// Calls `function` with a netlink socket, on a helper thread.
template <typename Function>
auto NbdAttachment::on_netlink(Function function) {
    using Value = std::invoke_result_t<Function&, io::uring::NbdNetlink&>;
    return reactor_.offload(threads_, [function = std::move(function)]() -> Value {
        auto netlink = io::uring::NbdNetlink::open();
        if (!netlink) return std::unexpected(std::move(netlink.error()));
        return function(*netlink);
    });
}

nbd::ExportInfo NbdAttachment::info() const {
    const block::Geometry geometry = shown_.device.geometry();
    std::uint16_t flags = nbd::kFlagHasFlags;
    if (geometry.can_flush) flags |= nbd::kFlagSendFlush | nbd::kFlagSendFua;
    if (geometry.rotational) flags |= nbd::kFlagRotational;
    if (spec_.read_only || geometry.read_only)
        flags |= nbd::kFlagReadOnly;
    else
        // Kernels before 6.12 send no write zeroes; they write them.
        flags |= nbd::kFlagSendWriteZeroes | (geometry.can_trim ? nbd::kFlagSendTrim : 0);
    return {.name = spec_.name,
            .description = {},
            .size = to_bytes(geometry.size),
            .flags = flags,
            .block_min = geometry.block_bytes,
            .block_preferred = geometry.preferred_bytes,
            .payload_max = nbd::kPayloadBytesMax};
}

io::uring::NbdNetlink::Disk NbdAttachment::disk() const {
    const block::Geometry geometry = shown_.device.geometry();
    return {.size = to_bytes(geometry.size),
            .block_bytes = geometry.block_bytes,
            .flags = flags_,
            .reconnect_max = kReconnectMax,
            .owner = owner_name(spec_.name)};
}

std::vector<nbd::ExportListing> NbdAttachment::list(const io::Address&) { return {}; }

async::Task<std::expected<std::unique_ptr<nbd::Served>, nbd::Refusal>> NbdAttachment::select(
    std::string, nbd::ServerSession&) {
    co_return std::make_unique<Client>(*this);
}

async::Task<std::expected<nbd::HelloAnswer, nbd::Refusal>> NbdAttachment::hello(
    nbd::Hello, nbd::ServerSession&) {
    co_return std::unexpected(nbd::Refusal{nbd::ReplyType::error_policy, "not to a kernel"});
}

/// A connection in its transmission phase, with a session of ours at its other end.
async::Task<Outcome<io::uring::UniqueFd>> NbdAttachment::connection() {
    if (!receive_buffer_)
        receive_buffer_ = shown_.connections.try_allocate(nbd::ReceiveBuffer::kQuietBytes);
    if (!receive_buffer_)
        co_return refuse(ErrorCode::no_memory,
                         "there is no memory for its connection now: raise 'memory'");
    CO_TRY(auto pair, io::uring::SocketPair::open(reactor_));
    tasks_.spawn(serve(std::move(pair.ours)));
    CO_TRY(const nbd::ServerFacts facts, co_await shake_hands(*pair.others, spec_.name));
    flags_ = facts.info.flags;
    co_return pair.others->release();
}

async::Task<void> NbdAttachment::serve(std::unique_ptr<io::Stream> stream) {
    {
        nbd::ServerSession session(world_, std::move(stream), *this, shown_.connections,
                                   receive_buffer_);
        sessions_.push_back(&session);
        co_await session.run();
        std::erase(sessions_, &session);
        if (!is_ending_)
            log::debug("{}: the kernel's connection ended: {}", path_, session.end_reason());
    }
    session_ended_.wake_all();
    if (!is_ending_ && !path_.empty() && sessions_.empty()) tasks_.spawn(reconnect());
}

/// The kernel has closed the connection, or this side had to: there is another one, unless the
/// kernel has no such disk any more.
async::Task<void> NbdAttachment::reconnect() {
    co_await io::sleep_for(reactor_, kReconnectPause);
    if (is_ending_ || !sessions_.empty()) co_return;
    auto another = co_await connection();
    Outcome<> done = std::unexpected(Problem{});
    if (another)
        done = co_await on_netlink([this, &another](io::uring::NbdNetlink& netlink) {
            return netlink.reconfigure(number_, disk(), another->get());
        });
    else
        done = std::unexpected(another.error());
    if (done) trouble_.clear();
    if (done || is_ending_) co_return;
    trouble_ = done.error().code == ErrorCode::not_found
                   ? "the kernel has disconnected it: detach it, and attach it again"
                   : done.error().text;
    log::warning("{}: {}", path_, trouble_);
    for (nbd::ServerSession* const session : sessions_) session->close("not wanted by the kernel");
}

async::Task<Outcome<>> NbdAttachment::make() {
    CO_TRY(const auto ours, co_await connection());
    const auto wanted = disk();
    auto made = co_await on_netlink(
        [&](io::uring::NbdNetlink& netlink) { return netlink.connect(wanted, ours.get()); });
    if (!made) co_return std::unexpected(std::move(made.error()));
    number_ = *made;
    path_ = fmt::format("/dev/nbd{}", number_);
    co_return Outcome<>{};
}

async::Task<Outcome<>> NbdAttachment::take_over(std::uint32_t number) {
    number_ = number;
    // Not one that somebody else has connected since.
    const std::string owner = co_await reactor_.offload(
        threads_, [number] { return io::uring::NbdNetlink::owner(number); });
    if (owner != owner_name(spec_.name))
        co_return refuse(ErrorCode::not_found, fmt::format("/dev/nbd{} is gone", number));
    CO_TRY(const auto ours, co_await connection());
    const auto wanted = disk();
    CO_TRY_VOID(co_await on_netlink([&](io::uring::NbdNetlink& netlink) {
        return netlink.reconfigure(number_, wanted, ours.get());
    }));
    path_ = fmt::format("/dev/nbd{}", number_);
    // Closed already if the kernel had not noticed yet that it had lost the other one.
    if (sessions_.empty()) tasks_.spawn(reconnect());
    log::info("{}: connected again", path_);
    co_return Outcome<>{};
}

async::Task<Outcome<>> NbdAttachment::resize() {
    const auto wanted = disk();
    co_return co_await on_netlink([&](io::uring::NbdNetlink& netlink) {
        return netlink.reconfigure(number_, wanted, std::nullopt);
    });
}

async::Task<Outcome<>> NbdAttachment::detach() {
    // Claimed until it has ended, so that nobody mounts it meanwhile.
    auto claim =
        co_await reactor_.offload(threads_, [this] { return io::uring::BlockClaim::take(path_); });
    if (!claim) co_return std::unexpected(std::move(claim.error()));
    const io::TimePoint deadline = reactor_.now() + kQuietMax;
    if (!co_await device_->idle(reactor_, deadline)) co_return busy(path_, device_->waiting());
    CO_TRY_VOID(co_await flush_until(*device_, reactor_, deadline, tasks_));
    is_ending_ = true;
    Outcome<> done = co_await on_netlink(
        [this](io::uring::NbdNetlink& netlink) { return netlink.disconnect(number_); });
    if (!done) is_ending_ = false;
    co_return done;
}

async::Task<void> NbdAttachment::tear_off() {
    is_ending_ = true;
    // First: a request that the kernel is sending holds what its disconnecting waits for.
    for (nbd::ServerSession* const session : std::vector(sessions_)) session->close("detached");
    const Outcome<> done = co_await on_netlink(
        [this](io::uring::NbdNetlink& netlink) { return netlink.disconnect(number_); });
    if (!done) log::error("{}: {}", path_, done.error().text);
}

async::Task<void> NbdAttachment::part(io::TimePoint deadline) {
    is_ending_ = true;
    for (nbd::ServerSession* const session : std::vector(sessions_)) session->finish("parting");
    while (!sessions_.empty())
        if (!co_await io::wait_until(reactor_, session_ended_, deadline)) break;
    for (nbd::ServerSession* const session : std::vector(sessions_)) session->close("parting");
}

async::Task<void> NbdAttachment::gone() {
    is_ending_ = true;
    for (nbd::ServerSession* const session : std::vector(sessions_)) session->close("detached");
    co_await tasks_.join();
}

}  // namespace dst::attach
