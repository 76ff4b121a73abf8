// Task: a coroutine that somebody awaits.
//
// Lazy, move-only, awaited once; owns its frame, so destroying a task destroys the whole chain of
// coroutines that it stands in. Frames come from free lists (base/frame_pool.h). A task that never
// waits runs to its end on its caller's stack. Exceptions don't pass: one that escapes is a bug.
#pragma once

#include <coroutine>
#include <cstddef>
#include <exception>
#include <optional>
#include <utility>

#include "base/check.h"
#include "base/frame_pool.h"
#include "base/list.h"

namespace dst::async {

template <typename T = void>
class Task;

class Scope;

namespace detail {

struct PromiseBase : ListHook<> {
    std::coroutine_handle<> continuation;
    Scope* scope = nullptr;  // set where the task is detached: the scope owns the frame

    static void* operator new(std::size_t size) { return frame_allocate(size); }
    static void operator delete(void* frame, std::size_t size) noexcept { frame_free(frame, size); }

    struct FinalAwaiter {
        bool await_ready() const noexcept { return false; }
        template <typename Promise>
        std::coroutine_handle<> await_suspend(std::coroutine_handle<Promise> handle) noexcept {
            PromiseBase& promise = handle.promise();
            if (promise.scope != nullptr) {
                finish_in_scope(*promise.scope, promise, handle);
                return std::noop_coroutine();
            }
            return promise.continuation;
        }
        void await_resume() const noexcept {}
    };

    std::suspend_always initial_suspend() const noexcept { return {}; }
    FinalAwaiter final_suspend() const noexcept { return {}; }
    [[noreturn]] void unhandled_exception() const { std::terminate(); }

  private:
    static void finish_in_scope(Scope& scope, PromiseBase& promise, std::coroutine_handle<> handle);
};

template <typename T>
struct Promise : PromiseBase {
    std::optional<T> value;
    Task<T> get_return_object();
    template <typename U = T>
    void return_value(U&& result) {
        value.emplace(std::forward<U>(result));
    }
};

template <>
struct Promise<void> : PromiseBase {
    Task<void> get_return_object();
    void return_void() const noexcept {}
};

}  // namespace detail

template <typename T>
class [[nodiscard]] Task {
  public:
    using promise_type = detail::Promise<T>;
    using Handle = std::coroutine_handle<promise_type>;

    Task(Task&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
    Task& operator=(Task&& other) noexcept {
        if (this != &other) {
            destroy();
            handle_ = std::exchange(other.handle_, nullptr);
        }
        return *this;
    }
    Task(const Task&) = delete;
    Task& operator=(const Task&) = delete;
    ~Task() { destroy(); }

    struct Awaiter {
        Handle handle;
        bool await_ready() const noexcept { return false; }
        std::coroutine_handle<> await_suspend(std::coroutine_handle<> waiting) const noexcept {
            handle.promise().continuation = waiting;
            return handle;
        }
        T await_resume() const {
            if constexpr (!std::is_void_v<T>) return *std::move(handle.promise().value);
        }
    };
    Awaiter operator co_await() && {
        CHECK(static_cast<bool>(handle_));
        return Awaiter{handle_};
    }

  private:
    friend class Scope;
    friend promise_type;
    explicit Task(Handle handle) : handle_(handle) {}
    void destroy() {
        if (handle_) handle_.destroy();
    }
    Handle release() { return std::exchange(handle_, nullptr); }

    Handle handle_;
};

template <typename T>
Task<T> detail::Promise<T>::get_return_object() {
    return Task<T>(std::coroutine_handle<Promise<T>>::from_promise(*this));
}
inline Task<void> detail::Promise<void>::get_return_object() {
    return Task<void>(std::coroutine_handle<Promise<void>>::from_promise(*this));
}

}  // namespace dst::async
