#include "async/scope.h"

namespace dst::async {

void detail::PromiseBase::finish_in_scope(Scope& scope, PromiseBase& promise,
                                          std::coroutine_handle<> handle) {
    scope.finished(promise, handle);
}

void Scope::spawn(Task<void> task) {
    const auto handle = task.release();
    CHECK(static_cast<bool>(handle));
    handle.promise().scope = this;
    tasks_.push_back(handle.promise());
    ++size_;
    handle.resume();
}

void Scope::finished(detail::PromiseBase& promise, std::coroutine_handle<> handle) {
    promise.unlink();
    handle.destroy();
    if (--size_ == 0) joiners_.wake_all();
}

Task<void> Scope::join() {
    while (!empty()) co_await joiners_.wait();
}

Scope::~Scope() {
    while (detail::PromiseBase* const promise = tasks_.pop_front()) {
        // The promise sits at a fixed place in its frame whatever its type: all are Promise<void>.
        std::coroutine_handle<detail::Promise<void>>::from_promise(
            static_cast<detail::Promise<void>&>(*promise))
            .destroy();
    }
}

}  // namespace dst::async
