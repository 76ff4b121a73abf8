// An intrusive doubly linked list whose hooks unlink themselves when they die.
//
// Why not std::list: linking allocates nothing, and whatever waits in a list may be destroyed at
// any moment (a coroutine's frame goes with everything that it waits in).
#pragma once

#include <cstddef>

#include "base/check.h"

namespace dst {

/// Base of what can stand in a `List<T>`; `Tag` tells several hooks of one type apart.
template <typename Tag = void>
class ListHook {
  public:
    ListHook() = default;
    ListHook(const ListHook&) = delete;
    ListHook& operator=(const ListHook&) = delete;
    ~ListHook() { unlink(); }

    [[nodiscard]] bool is_linked() const { return next_ != nullptr; }
    void unlink() {
        if (next_ == nullptr) return;
        previous_->next_ = next_;
        next_->previous_ = previous_;
        next_ = previous_ = nullptr;
    }

  private:
    template <typename T, typename U>
    friend class List;
    ListHook* next_ = nullptr;
    ListHook* previous_ = nullptr;
};

/// Owns nothing. What is linked may outlive the list only if it was unlinked before.
template <typename T, typename Tag = void>
class List {
    using Hook = ListHook<Tag>;

  public:
    List() { head_.next_ = head_.previous_ = &head_; }
    List(const List&) = delete;
    List& operator=(const List&) = delete;
    ~List() {
        while (!empty()) head_.next_->unlink();
        head_.next_ = head_.previous_ = nullptr;
    }

    [[nodiscard]] bool empty() const { return head_.next_ == &head_; }
    [[nodiscard]] T* front() { return empty() ? nullptr : item(head_.next_); }
    [[nodiscard]] T* back() { return empty() ? nullptr : item(head_.previous_); }
    /// The item behind `at`, or null.
    [[nodiscard]] T* next(T& at) {
        Hook* hook = static_cast<Hook&>(at).next_;
        return hook == &head_ ? nullptr : item(hook);
    }
    void push_back(T& at) { insert(head_, at); }
    void push_front(T& at) { insert(*head_.next_, at); }
    void insert_before(T& position, T& at) { insert(static_cast<Hook&>(position), at); }
    T* pop_front() {
        if (empty()) return nullptr;
        T* const taken = front();
        static_cast<Hook*>(taken)->unlink();
        return taken;
    }
    /// Moves everything from `other` to the end of this list.
    void append(List& other) {
        if (other.empty()) return;
        Hook* const first = other.head_.next_;
        Hook* const last = other.head_.previous_;
        first->previous_ = head_.previous_;
        head_.previous_->next_ = first;
        last->next_ = &head_;
        head_.previous_ = last;
        other.head_.next_ = other.head_.previous_ = &other.head_;
    }

  private:
    static T* item(Hook* hook) { return static_cast<T*>(hook); }
    void insert(Hook& position, T& at) {
        Hook& hook = at;
        CHECK(!hook.is_linked());
        hook.next_ = &position;
        hook.previous_ = position.previous_;
        position.previous_->next_ = &hook;
        position.previous_ = &hook;
    }

    Hook head_;
};

}  // namespace dst
