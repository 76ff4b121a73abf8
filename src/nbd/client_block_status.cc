// The answer to block status, as servers send it: up to a million descriptors in one chunk.
#include <algorithm>

#include "nbd/client_connection.h"

namespace dst::nbd {
namespace {

constexpr std::size_t kContextBytes = 4;
/// So many bytes of descriptors are looked at together.
constexpr std::size_t kPieceBytes = 8 << 10;
static_assert(kPieceBytes % BlockDescriptor::kWireBytes == 0 &&
              kPieceBytes <= ReceiveBuffer::kQuietBytes);

std::uint64_t up(std::uint64_t bytes) { return (bytes + kSectorBytes - 1) & ~(kSectorBytes - 1); }
std::uint64_t down(std::uint64_t bytes) { return bytes & ~(kSectorBytes - 1); }

/// Descriptors count bytes and extents sectors: a sector with an edge in it counts as data, once.
class Describer {
  public:
    Describer(block::ExtentList& into, std::uint64_t length) : into_(into), end_(length) {}

    void take(const BlockDescriptor& descriptor) {
        if (is_full_ || at_ >= end_) return;
        const std::uint64_t until = std::min<std::uint64_t>(at_ + descriptor.length, end_);
        const std::uint64_t first = std::max(up(at_), told_);
        const std::uint64_t last = down(until);
        if (last > first) {
            tell(first, {});
            tell(last, {.count = {},
                        .hole = (descriptor.flags & kStateHole) != 0,
                        .zero = (descriptor.flags & kStateZero) != 0});
        }
        at_ = until;
    }
    /// The last sector, if only parts of it were described.
    void finish() { tell(up(at_), {}); }

  private:
    void tell(std::uint64_t until, block::Extent extent) {
        if (until <= told_ || is_full_) return;
        extent.count = sectors_floor(ByteCount(until - told_));
        is_full_ = !into_.add(extent);
        told_ = until;
    }

    block::ExtentList& into_;
    std::uint64_t end_;
    std::uint64_t at_ = 0;    // described by the server so far, in bytes from the request's front
    std::uint64_t told_ = 0;  // passed on; whole sectors
    bool is_full_ = false;
};

}  // namespace

async::Task<Result<>> ClientConnection::receive_block_status(const ChunkHeader& header,
                                                             std::uint32_t crc, Call& call) {
    if (call.own != nullptr || call.request.op != block::Op::block_status)
        co_return fail(ErrorCode::corrupt, "block status that was not asked for");
    if (header.length <= kContextBytes || header.length > kPayloadBytesMax ||
        (header.length - kContextBytes) % BlockDescriptor::kWireBytes != 0)
        co_return fail(ErrorCode::corrupt, "block status of an impossible length");
    if (incoming_.size() < kContextBytes)
        CO_TRY_VOID(co_await incoming_.fill(*stream_, kContextBytes));
    const auto context = incoming_.readable().first(kContextBytes);
    const bool is_ours = load_be<std::uint32_t>(context.data()) == facts_.allocation_context;
    std::uint32_t sum = facts_.checksums ? crc32c(context) : 0;
    incoming_.consume(kContextBytes);

    Describer describer(*call.request.extents, to_bytes(call.request.range.count).value());
    for (std::size_t left = header.length - kContextBytes; left > 0;) {
        const std::size_t piece = std::min(left, kPieceBytes);
        if (incoming_.size() < piece) CO_TRY_VOID(co_await incoming_.fill(*stream_, piece));
        const auto bytes = incoming_.readable().first(piece);
        if (facts_.checksums) sum = crc32c(bytes, sum);
        for (std::size_t at = 0; at < piece; at += BlockDescriptor::kWireBytes) {
            const BlockDescriptor descriptor{load_be<std::uint32_t>(bytes.data() + at),
                                             load_be<std::uint32_t>(bytes.data() + at + 4)};
            if (descriptor.length == 0)
                co_return fail(ErrorCode::corrupt, "an empty extent in block status");
            if (is_ours) describer.take(descriptor);
        }
        incoming_.consume(piece);
        left -= piece;
    }
    if (facts_.checksums && sum != crc) co_return fail(ErrorCode::corrupt, "checksum of a payload");
    if (is_ours) describer.finish();
    co_return Result<>{};
}

}  // namespace dst::nbd
