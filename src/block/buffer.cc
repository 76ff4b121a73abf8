#include "block/buffer.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <utility>

#include "base/check.h"

namespace dst::block {

namespace detail {

/// One MiB of the arena, cut into buffers of one size, all of one account.
struct Slab : ListHook<> {
    std::byte* base = nullptr;
    Account* owner = nullptr;
    std::uint32_t size_class = 0;
    std::uint32_t free_count = 0;
    std::array<std::uint16_t, kSlabBytes / kBufferMinBytes> free_indices{};
    std::array<std::uint32_t, kSlabBytes / kBufferMinBytes> references{};

    [[nodiscard]] std::size_t buffer_bytes() const { return kBufferMinBytes << size_class; }
    [[nodiscard]] std::uint32_t capacity() const {
        return static_cast<std::uint32_t>(kSlabBytes / buffer_bytes());
    }
    void cut(std::uint32_t into_class) {
        size_class = into_class;
        free_count = capacity();
        for (std::uint32_t at = 0; at < free_count; ++at)
            free_indices[at] = static_cast<std::uint16_t>(free_count - 1 - at);
    }
};

}  // namespace detail

using detail::Slab;

namespace {

/// Of all slabs one in so many is promised to nobody; in the least memory there is none to spare.
constexpr std::size_t kPartKept = 16;

std::size_t class_of(std::size_t bytes) {
    CHECK(bytes > 0 && bytes <= kSlabBytes);
    const std::size_t pages = (bytes + kBufferMinBytes - 1) / kBufferMinBytes;
    return static_cast<std::size_t>(std::bit_width(pages - 1));
}

}  // namespace

Buffer::Buffer(const Buffer& other) : slab_(other.slab_), index_(other.index_) {
    if (slab_ != nullptr) ++slab_->references[index_];
}

Buffer::Buffer(Buffer&& other) noexcept
    : slab_(std::exchange(other.slab_, nullptr)), index_(other.index_) {}

Buffer& Buffer::operator=(Buffer other) noexcept {
    std::swap(slab_, other.slab_);
    std::swap(index_, other.index_);
    return *this;
}

Buffer::~Buffer() {
    if (slab_ != nullptr && --slab_->references[index_] == 0) slab_->owner->give(*slab_, index_);
}

std::span<std::byte> Buffer::bytes() const {
    CHECK(slab_ != nullptr);
    return {slab_->base + index_ * slab_->buffer_bytes(), slab_->buffer_bytes()};
}

Account::Account(BufferPool& pool, std::size_t guaranteed_slabs, Holds holds)
    : pool_(pool), holds_(holds) {
    const std::size_t half = pool.slabs_total() / 2;
    const std::size_t unpromised = half - std::min(half, pool.promised_);
    const std::size_t unheld =
        pool.free_count_ - std::min(pool.free_count_, pool.guaranteed_unused_);
    set_guaranteed(std::min({guaranteed_slabs, unpromised, unheld}));
    if (holds == Holds::connections) least_ = guaranteed_;
    pool.accounts_.push_back(this);
}

void Account::set_guaranteed(std::size_t slabs) {
    const auto unused = [this] { return guaranteed_ - std::min(guaranteed_, slabs_held_); };
    pool_.promised_ -= guaranteed_;
    pool_.guaranteed_unused_ -= unused();
    guaranteed_ = slabs;
    pool_.promised_ += guaranteed_;
    pool_.guaranteed_unused_ += unused();
}

Account::~Account() {
    CHECK(slabs_held_ == 0 && waiters_.empty());
    pool_.guaranteed_unused_ -= guaranteed_;
    pool_.promised_ -= guaranteed_;
    std::erase(pool_.accounts_, this);
    if (pool_.waiting_ > 0) pool_.serve_accounts();
}

std::size_t Account::bytes_held() const { return slabs_held_ * kSlabBytes; }

std::size_t Account::bytes_available() const { return slabs_available() * kSlabBytes; }

/// The threshold: its guarantee, and then as much as would be left for the others.
std::size_t Account::slabs_available() const {
    if (pool_.free_count_ == 0) return 0;
    const std::size_t unpromised =
        pool_.free_count_ - std::min(pool_.free_count_, pool_.guaranteed_unused_);
    if (slabs_held_ < guaranteed_) return guaranteed_ - slabs_held_ + unpromised / 2;
    const std::size_t beyond = slabs_held_ - guaranteed_;
    return beyond < unpromised ? (unpromised - beyond + 1) / 2 : 0;
}

Buffer Account::take(std::size_t size_class) {
    Slab* slab = open_[size_class].front();
    if (slab == nullptr) {
        if (slabs_available() == 0) return {};
        slab = pool_.free_.pop_front();
        --pool_.free_count_;
        if (slabs_held_++ < guaranteed_) --pool_.guaranteed_unused_;
        slab->owner = this;
        slab->cut(static_cast<std::uint32_t>(size_class));
        open_[size_class].push_back(*slab);
    }
    const std::uint32_t index = slab->free_indices[--slab->free_count];
    if (slab->free_count == 0) {
        slab->unlink();
        full_.push_back(*slab);
    }
    slab->references[index] = 1;
    return Buffer(slab, index);
}

void Account::give(Slab& slab, std::uint32_t index) {
    if (slab.free_count == 0) {
        slab.unlink();
        open_[slab.size_class].push_front(slab);
    }
    slab.free_indices[slab.free_count++] = static_cast<std::uint16_t>(index);
    const bool emptied = slab.free_count == slab.capacity();
    if (emptied) {
        slab.unlink();
        slab.owner = nullptr;
        pool_.free_.push_front(slab);
        ++pool_.free_count_;
        if (--slabs_held_ < guaranteed_) ++pool_.guaranteed_unused_;
    }
    BufferPool& pool = pool_;
    if (is_retired_) {
        if (slabs_held_ == 0) pool.delete_retired();  // this account among them
    } else if (pool.waiting_ > 0) {
        serve_waiters();
    }
    if (emptied && pool.waiting_ > 0) pool.serve_accounts();
}

void Account::serve_waiters() {
    while (Request* const first = waiters_.front()) {
        first->granted = take(first->size_class);
        if (!first->granted) return;
        --pool_.waiting_;
        first->wake();
    }
}

Buffer Account::try_allocate(std::size_t bytes) {
    const std::size_t size_class = class_of(bytes);
    return waiters_.empty() ? take(size_class) : Buffer{};
}

async::Task<Buffer> Account::allocate(std::size_t bytes) {
    if (Buffer buffer = try_allocate(bytes)) co_return buffer;
    if (pool_.has_given_up_) co_return Buffer{};

    struct Awaiter : Request {
        Account& account;
        Awaiter(Account& from, std::size_t wanted) : account(from) { size_class = wanted; }
        ~Awaiter() {
            if (granted || !is_linked() || is_woken) return;
            --account.pool_.waiting_;
            unlink();
            account.serve_waiters();  // it stood in front of somebody
        }
        Awaiter(const Awaiter&) = delete;
        Awaiter& operator=(const Awaiter&) = delete;
        bool await_ready() const noexcept { return false; }
        void await_suspend(std::coroutine_handle<> handle) {
            suspend(handle);
            account.waiters_.push_back(*this);
            ++account.pool_.waiting_;
            account.pool_.ask_to_reclaim();
        }
        Buffer await_resume() { return std::move(granted); }
    };
    co_return co_await Awaiter(*this, class_of(bytes));
}

BufferPool::BufferPool(std::size_t bytes)
    : arena_(std::max<std::size_t>(bytes / kSlabBytes, 2) * kSlabBytes) {
    const std::size_t slabs = arena_.bytes().size() / kSlabBytes;
    slabs_.reserve(slabs);
    for (std::size_t at = 0; at < slabs; ++at) {
        slabs_.push_back(std::make_unique<Slab>());
        slabs_.back()->base = arena_.bytes().data() + at * kSlabBytes;
        free_.push_back(*slabs_.back());
    }
    free_count_ = slabs;
}

void Retire::operator()(Account* account) const { pool->retire(std::unique_ptr<Account>(account)); }

/// What can't be promised to anybody else: nobody gives it back.
std::size_t BufferPool::needed() const {
    std::size_t sum = 0;
    for (const Account* const account : accounts_)
        sum += account->holds_ == Account::Holds::connections
                   ? std::max(account->slabs_held_, account->least_)
                   : account->least_;
    return sum;
}

/// Others keep what they can't go on without.
void BufferPool::make_promisable(std::size_t slabs) {
    for (Account* const account : accounts_) {
        if (promised_ + slabs <= slabs_total()) return;
        const std::size_t excess = promised_ + slabs - slabs_total();
        account->set_guaranteed(account->guaranteed_ -
                                std::min(excess, account->guaranteed_ - account->least_));
    }
}

/// What a hung disk keeps of somebody is not missed while there is some left for whoever waits.
std::size_t BufferPool::promisable(std::size_t slabs) { return slabs - slabs / kPartKept; }

Outcome<> BufferPool::can_promise(std::size_t slabs) const {
    const std::size_t most = promisable(slabs_total());
    const std::size_t all = needed() + slabs;
    if (all <= most) return {};
    return refuse(ErrorCode::no_memory,
                  fmt::format("'memory' is too little for one more: {} MiB of buffers are missing; "
                              "raise it, or stop what is not needed",
                              (all - most) * kSlabBytes >> 20));
}

Outcome<Share> BufferPool::share(std::size_t wanted, std::size_t least) {
    CHECK(least <= wanted);
    TRY_VOID(can_promise(least));
    make_promisable(least);
    Share made(new Account(*this, wanted), Retire{this});
    if (made->guaranteed_ < least) made->set_guaranteed(least);
    made->least_ = least;
    return made;
}

void BufferPool::retire(std::unique_ptr<Account> account) {
    CHECK(account->waiters_.empty());
    account->set_guaranteed(0);
    account->least_ = 0;
    account->is_retired_ = true;
    retired_.push_back(std::move(account));
    delete_retired();
    if (waiting_ > 0) serve_accounts();
    // What keeps its buffers may as well let go of them.
    ask_to_reclaim();
}

void BufferPool::give_up() {
    has_given_up_ = true;
    for (Account* const account : accounts_) {
        while (Account::Request* const first = account->waiters_.front()) {
            --waiting_;
            first->is_woken = true;
            first->wake();
        }
    }
}

void BufferPool::delete_retired() {
    std::erase_if(retired_, [](const auto& account) { return account->slabs_held_ == 0; });
}

BufferPool::~BufferPool() { CHECK(free_count_ == slabs_.size()); }

void BufferPool::ask_to_reclaim() {
    for (Reclaimable* at = reclaimables_.front(); at != nullptr; at = reclaimables_.next(*at))
        at->reclaim();
}

void BufferPool::serve_accounts() {
    // Round robin, so that the first account doesn't get every slab that comes free.
    for (std::size_t left = accounts_.size(); left > 0 && waiting_ > 0; --left) {
        next_account_ = (next_account_ + 1) % accounts_.size();
        accounts_[next_account_]->serve_waiters();
    }
}

}  // namespace dst::block
