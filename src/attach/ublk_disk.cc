#include "attach/ublk_disk.h"

#include <cerrno>
#include <utility>

#include "base/check.h"
#include "base/log.h"

namespace dst::attach {
namespace {

using io::uring::UblkQueue;

/// What the kernel's block layer is told.
int errno_of(const Error& error) {
    switch (error.code) {
        case ErrorCode::no_space:
            return ENOSPC;
        case ErrorCode::unsupported:
            return EOPNOTSUPP;
        default:
            return EIO;
    }
}

block::Op op_of(std::uint8_t op) {
    switch (op) {
        case UBLK_IO_OP_WRITE:
            return block::Op::write;
        case UBLK_IO_OP_FLUSH:
            return block::Op::flush;
        case UBLK_IO_OP_DISCARD:
            return block::Op::trim;
        case UBLK_IO_OP_WRITE_ZEROES:
            return block::Op::write_zeroes;
        default:
            return block::Op::read;
    }
}

std::size_t bytes_of(const UblkQueue::Request& asked) { return to_bytes(asked.count).value(); }

}  // namespace

UblkDisk::UblkDisk(io::uring::Reactor& reactor, Shown shown, std::unique_ptr<UblkQueue> queue)
    : reactor_(reactor), shown_(shown), queue_(std::move(queue)), nowhere_(kRequestBytesMax) {}

UblkDisk::~UblkDisk() { CHECK(executing_.empty() && releasing_.empty()); }

/// Counts a request while it waits for its answer.
class UblkDisk::Asked {
  public:
    explicit Asked(UblkDisk& disk) : disk_(&disk) { ++disk.waiting_; }
    Asked(const Asked&) = delete;
    Asked& operator=(const Asked&) = delete;
    ~Asked() { end(); }
    void end() {
        UblkDisk* const disk = std::exchange(disk_, nullptr);
        if (disk != nullptr && --disk->waiting_ == 0) disk->became_idle_.wake_all();
    }

  private:
    UblkDisk* disk_;
};

void UblkDisk::begin(std::uint16_t depth) {
    CHECK(tags_.empty());
    tags_ = std::vector<Tag>(depth);
    for (std::uint16_t number = 0; number < depth; ++number) serving_.spawn(serve(number));
}

async::Task<bool> UblkDisk::idle(io::TimePoint deadline) {
    while (waiting_ > 0)
        if (!co_await io::wait_until(reactor_, became_idle_, deadline)) break;
    co_return waiting_ == 0;
}

async::Task<void> UblkDisk::serve(std::uint16_t number) {
    Tag& tag = tags_[number];
    std::byte* const nowhere = nowhere_.bytes().data();
    int said = co_await hand_over(number, Command::fetch, 0, nowhere);
    while (said == UblkQueue::kRequest || said == UblkQueue::kWantsPlace) {
        Asked waits(*this);
        const Request asked = queue_->request(number);
        if (said == UblkQueue::kWantsPlace) {
            // Even of a write that fails: the kernel takes no answer before it has given the data.
            (void)co_await answer_to(number, asked, true);
            if (end_ == End::leaving) break;
            std::byte* const place = tag.buffer ? tag.buffer.bytes().data() : nowhere;
            said = co_await hand_over(number, Command::give_place, 0, place);
            if (said != UblkQueue::kRequest) continue;
        }
        const int answer = co_await answer_to(number, asked, false);
        if (end_ == End::leaving && answer < 0) break;
        std::byte* const data = tag.buffer ? tag.buffer.bytes().data() : nowhere;
        if (tag.buffer) release_when_committed(std::move(tag.buffer));
        waits.end();
        said = co_await hand_over(number, Command::commit, answer, data);
    }
    tag.buffer = {};
    if (end_ == End::none && said != UblkQueue::kGone)
        log::error("ublk: the kernel takes no answer to tag {}: error {}", number, -said);
}

/// Gives the tag to the kernel; returns what the kernel says when it gives it back.
async::Task<int> UblkDisk::hand_over(std::uint16_t number, Command command, int answer,
                                     std::byte* data) {
    auto operation = queue_->hand_over(command, number, answer, data);
    tags_[number].in_kernel = &operation;
    const int said = co_await operation;
    tags_[number].in_kernel = nullptr;
    co_return said;
}

/// Has a place found for a write's data, or the request executed. The answer comes from that, or
/// from who ends it all.
async::Task<int> UblkDisk::answer_to(std::uint16_t number, Request asked, bool wants_place) {
    Tag& tag = tags_[number];
    if (end_ != End::none) co_return -EIO;
    tag.is_answered = false;
    const std::uint32_t serial = ++tag.serial;
    if (wants_place)
        executing_.spawn(find_place(number, serial, bytes_of(asked)));
    else
        executing_.spawn(execute(number, serial, asked, std::move(tag.buffer)));
    while (!tag.is_answered) co_await tag.waiter.wait();
    co_return tag.answer;
}

async::Task<void> UblkDisk::find_place(std::uint16_t number, std::uint32_t serial,
                                       std::size_t bytes) {
    block::Buffer buffer = bytes == 0 ? block::Buffer() : co_await shown_.account.allocate(bytes);
    finish(number, serial, 0, std::move(buffer));
}

async::Task<void> UblkDisk::execute(std::uint16_t number, std::uint32_t serial, Request asked,
                                    block::Buffer buffer) {
    block::Request request{.op = op_of(asked.op), .fua = asked.fua};
    const std::size_t bytes = bytes_of(asked);
    if (request.op != block::Op::flush) {
        request.range = {asked.first, asked.count};
        request.no_hole = request.op == block::Op::write_zeroes && asked.no_hole;
    }
    if (request.op == block::Op::read) buffer = co_await shown_.account.allocate(bytes);
    if (request.op == block::Op::read || request.op == block::Op::write) {
        // There is no memory any more: the daemon ends.
        if (!buffer) {
            finish(number, serial, -EIO, {});
            co_return;
        }
        request.data = buffer.bytes().first(bytes);
    }
    if (request.op == block::Op::write) request.buffer = &buffer;
    const Result<> done = co_await shown_.device.execute(request);
    if (request.op != block::Op::read) buffer = {};
    finish(number, serial, done ? static_cast<int>(bytes) : -errno_of(done.error()),
           std::move(buffer));
}

void UblkDisk::finish(std::uint16_t number, std::uint32_t serial, int answer,
                      block::Buffer buffer) {
    Tag& tag = tags_[number];
    if (tag.serial != serial || tag.is_answered) return;
    tag.is_answered = true;
    tag.answer = answer;
    tag.buffer = std::move(buffer);
    tag.waiter.wake_all();
}

/// Answers for the device.
void UblkDisk::fail(Tag& tag) {
    if (tag.is_answered) return;
    tag.is_answered = true;
    tag.answer = -EIO;
    tag.waiter.wake_all();
}

void UblkDisk::fail_all() {
    end_ = End::failing;
    for (Tag& tag : tags_) fail(tag);
}

/// Commands are submitted in order: once one behind the commit is answered, that was taken, and its
/// data copied.
void UblkDisk::release_when_committed(block::Buffer buffer) {
    committed_.push_back(std::move(buffer));
    if (committed_.size() == 1) releasing_.spawn(release());
}

async::Task<void> UblkDisk::release() {
    co_await async::end_of_turn();  // those of this turn go together
    const std::vector<block::Buffer> taken = std::exchange(committed_, {});
    (void)co_await reactor_.submit([](io_uring_sqe& entry) { io_uring_prep_nop(&entry); });
}

async::Task<void> UblkDisk::leave(io::TimePoint deadline) {
    end_ = End::leaving;
    if (co_await idle(deadline)) co_return;
    for (Tag& tag : tags_) fail(tag);
    // What is left now is data on its way out of the kernel, which waits for nobody.
    while (waiting_ > 0) co_await became_idle_.wait();
}

void UblkDisk::abandon(std::shared_ptr<UblkDisk> disk) {
    CHECK(disk->end_ == End::leaving && disk->waiting_ == 0);
    for (const Tag& tag : disk->tags_)
        if (tag.in_kernel != nullptr) disk->reactor_.abandon(*tag.in_kernel);
    disk->reactor_.keep(disk);
}

async::Task<void> UblkDisk::gone() {
    co_await executing_.join();
    co_await releasing_.join();
}

}  // namespace dst::attach
