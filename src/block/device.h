// Device: anything that takes block requests. The interface that every layer above speaks.
#pragma once

#include <cstdint>

#include "async/task.h"
#include "base/digest.h"
#include "base/result.h"
#include "base/units.h"
#include "block/request.h"

namespace dst::block {

/// What a device is and can do. Taken anew after each reconnect below.
struct Geometry {
    SectorCount size;
    /// Unit of positions and lengths, in bytes: a power of two, at least 512.
    std::uint32_t block_bytes = 512;
    std::uint32_t preferred_bytes = 4096;
    bool read_only = false;
    /// There is a volatile cache that `flush` empties.
    bool can_flush = true;
    bool can_trim = true;
    bool can_zero_fast = false;
    bool rotational = false;
    /// Flush on any connection covers what any other was answered (NBD_FLAG_CAN_MULTI_CONN).
    bool multi_connection = true;
};

/// Semantics are those of a disk with a volatile cache (design §4). Callers check ranges against
/// `geometry()` and never have two overlapping requests in flight of which one is a change, unless
/// they don't care about the order.
class Device {
  public:
    virtual ~Device() = default;

    [[nodiscard]] virtual Geometry geometry() const = 0;

    /// Executes one request. Suspends, unless it can be answered at once. The request and its data
    /// stay with the caller and must outlive the call. Errors are those that the far end gave;
    /// after an error of a change the content of its range is undefined.
    virtual async::Task<Result<>> execute(Request& request) = 0;

    /// Drawn whenever the device is opened, and when it has lost changes because a flush failed:
    /// who sees another one knows that unflushed changes may be lost in between (design §5). Never
    /// 0.
    [[nodiscard]] virtual std::uint64_t instance() const = 0;
    /// Which medium this is; 0: unknown. Differs for an exchanged disk.
    [[nodiscard]] virtual std::uint64_t identity() const { return 0; }

    /// The digest of what a range of at most `kPayloadMaxBytes` holds, made where the data is; so
    /// it is `unsupported` where the data would have to come here first (`read` does as well then),
    /// and `node_lost` rather than waiting for a link. Suspends.
    virtual async::Task<Result<Digest>> digest(SectorRange range);

    /// Asks anew how large the medium is, for disks and files grow: `geometry()` says it then. Does
    /// nothing where that is always known, or can't be asked. Suspends.
    virtual async::Task<Result<>> refresh_size();
};

inline async::Task<Result<>> Device::refresh_size() { co_return Result<>{}; }

inline async::Task<Result<Digest>> Device::digest(SectorRange) {
    co_return fail(ErrorCode::unsupported, "digests are not made there");
}

}  // namespace dst::block
