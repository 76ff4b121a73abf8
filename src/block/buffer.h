// Buffers: all memory that payloads pass through, bounded, shared out fairly.
//
// A pool is one arena, cut into slabs of 1 MiB; a slab serves one size class of one account. An
// account is what one top-level device may use: it always gets its guaranteed slabs, and of the
// rest as many as are still free (the dynamic threshold of Choudhury and Hahne, 1998: whoever hogs
// leaves as much as he takes). So a device whose peer is stuck can fill its share and no more, and
// the memory in use never exceeds the arena, whatever peers do (design §4, memory).
//
// Whoever waits for a buffer must be sure that one comes. What his own account holds comes back, or
// is guaranteed beside what he needs; what others hold may never come back (their storage holds).
// So what somebody can't go on without is promised to him, or he is refused (`BufferPool::share`),
// and buffers that stay for as long as a connection does have an account of their own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "async/task.h"
#include "async/wait.h"
#include "base/list.h"
#include "base/pages.h"
#include "base/result.h"

namespace dst::block {

class BufferPool;
class Account;

namespace detail {
struct Slab;
}

/// A reference to a buffer: counted, so a buffer lives until the last one goes. Not thread-safe:
/// buffers stay on their reactor.
class Buffer {
  public:
    Buffer() = default;
    Buffer(const Buffer& other);
    Buffer(Buffer&& other) noexcept;
    Buffer& operator=(Buffer other) noexcept;
    ~Buffer();

    [[nodiscard]] explicit operator bool() const { return slab_ != nullptr; }
    /// The whole buffer; a power of two, at least what was asked for. 4 KiB-aligned.
    [[nodiscard]] std::span<std::byte> bytes() const;

  private:
    friend class Account;
    Buffer(detail::Slab* slab, std::uint32_t index) : slab_(slab), index_(index) {}

    detail::Slab* slab_ = nullptr;
    std::uint32_t index_ = 0;
};

inline constexpr std::size_t kBufferMinBytes = 4096;
inline constexpr std::size_t kSlabBytes = 1 << 20;
inline constexpr std::size_t kSizeClasses = 9;  // 4 KiB .. 1 MiB

/// One user's share of a pool. Outlives everyone who waits, and its buffers: a replay window may
/// keep those for longer than its user lives, so who is done with an account retires it.
class Account {
  public:
    /// What is held for a request comes back when it is done; what is held for a connection stays.
    enum class Holds : bool { requests, connections };

    /// `guaranteed_slabs` are set aside for this account, or fewer: half of the arena is for
    /// whoever needs it, and what others hold can't be set aside.
    Account(BufferPool& pool, std::size_t guaranteed_slabs, Holds holds = Holds::requests);
    ~Account();
    Account(const Account&) = delete;
    Account& operator=(const Account&) = delete;

    /// A buffer of at least `bytes` (at most 1 MiB), or an empty one if there is none now, or
    /// somebody waits already.
    [[nodiscard]] Buffer try_allocate(std::size_t bytes);
    /// The same, but waits; first come, first served. Empty only after `BufferPool::give_up`.
    /// Suspends if there is none now.
    [[nodiscard]] async::Task<Buffer> allocate(std::size_t bytes);

    [[nodiscard]] std::size_t bytes_held() const;
    /// How much more it could get now if nobody else took any.
    [[nodiscard]] std::size_t bytes_available() const;
    [[nodiscard]] bool has_waiters() { return !waiters_.empty(); }

  private:
    friend class BufferPool;
    friend class Buffer;
    struct Request : async::Waiter {
        std::size_t size_class = 0;
        bool is_woken = false;  // although nothing was granted
        Buffer granted;
    };

    Buffer take(std::size_t size_class);
    void give(detail::Slab& slab, std::uint32_t index);
    void serve_waiters();
    [[nodiscard]] std::size_t slabs_available() const;
    void set_guaranteed(std::size_t slabs);

    BufferPool& pool_;
    const Holds holds_;
    bool is_retired_ = false;
    std::size_t least_ = 0;  // of what is guaranteed, what it can't go on without
    std::size_t guaranteed_ = 0;
    std::size_t slabs_held_ = 0;
    List<detail::Slab> open_[kSizeClasses];  // slabs with a free buffer
    List<detail::Slab> full_;
    List<Request> waiters_;
};

/// What keeps buffers after they were answered (the replay windows) and can be asked to let go.
class Reclaimable : public ListHook<> {
  public:
    virtual ~Reclaimable() = default;
    /// Somebody waits for memory: give back what you can, soon. Must not suspend.
    virtual void reclaim() = 0;
};

/// Ends an account that others may still have buffers of.
struct Retire {
    BufferPool* pool = nullptr;
    void operator()(Account* account) const;
};
/// An account with its owner.
using Share = std::unique_ptr<Account, Retire>;

class BufferPool {
  public:
    /// Reserves `bytes` (rounded down to slabs, at least two) of address space; pages come into
    /// being as they are used.
    explicit BufferPool(std::size_t bytes);
    ~BufferPool();
    BufferPool(const BufferPool&) = delete;
    BufferPool& operator=(const BufferPool&) = delete;

    [[nodiscard]] std::size_t slabs_total() const { return slabs_.size(); }
    [[nodiscard]] std::size_t slabs_free() const { return free_count_; }
    [[nodiscard]] std::span<std::byte> arena() const { return arena_.bytes(); }
    /// True while somebody waits for a buffer.
    [[nodiscard]] bool has_waiters() const { return waiting_ > 0; }
    void add(Reclaimable& who) { reclaimables_.push_back(who); }
    /// An account that can always have `least` slabs (whoever holds them gives them back first) and
    /// that `wanted` are set aside for, as long as nobody else can't go on without them.
    /// `no_memory` if so many can't be promised any more; in which order who came makes no
    /// difference.
    [[nodiscard]] Outcome<Share> share(std::size_t wanted, std::size_t least);
    /// Of so many slabs, how many may be promised.
    [[nodiscard]] static std::size_t promisable(std::size_t slabs);
    /// Whether shares of so many slabs together could be had; the text says what is missing.
    [[nodiscard]] Outcome<> can_promise(std::size_t slabs) const;
    /// Deletes `account` once its last buffer is given back. Nobody allocates from it any more.
    void retire(std::unique_ptr<Account> account);
    /// Nobody waits for memory any more: who does gets an empty buffer. For the end of a daemon.
    void give_up();

  private:
    friend class Account;
    friend class Buffer;
    [[nodiscard]] std::size_t needed() const;
    void make_promisable(std::size_t slabs);
    void ask_to_reclaim();
    void serve_accounts();
    void delete_retired();

    Pages arena_;
    std::vector<std::unique_ptr<detail::Slab>> slabs_;
    List<detail::Slab> free_;
    std::size_t free_count_ = 0;
    std::size_t guaranteed_unused_ = 0;  // set aside and not taken yet
    std::size_t waiting_ = 0;
    std::size_t promised_ = 0;  // all guarantees
    bool has_given_up_ = false;
    std::vector<Account*> accounts_;
    std::size_t next_account_ = 0;
    List<Reclaimable> reclaimables_;
    std::vector<std::unique_ptr<Account>> retired_;  // last: they use all of the above
};

}  // namespace dst::block
