// Attachments: the devices that this daemon shows to the local kernel, by the name of what they
// show.
//
// A name is taken from the begin of an attach to the end of a detach, so that nobody removes what
// is below. Requests that a torn-off attachment has left in the device are waited for behind the
// scenes; their memory goes when they are done.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "async/scope.h"
#include "attach/way.h"
#include "block/buffer.h"
#include "block/device.h"

namespace dst::attach {

/// One of them, as it is told to people.
struct Listed {
    Spec spec;  // with the way that was taken, and the name in /dev
    SectorCount size;
    std::string trouble{};
    /// Of an attach without a wish: why better ways were not taken, a line each.
    std::vector<std::string> passed_over{};
};

class Attachments {
  public:
    /// The pool outlives it, and `connections`, the account that connections to the kernel receive
    /// into.
    Attachments(block::BufferPool& pool, block::Account& connections)
        : pool_(pool), connections_(connections) {}
    /// After `shut_down`.
    ~Attachments();
    Attachments(const Attachments&) = delete;
    Attachments& operator=(const Attachments&) = delete;

    /// What can be attached by. Without any, all are refused.
    void offer(std::vector<std::unique_ptr<Way>> ways) { ways_ = std::move(ways); }

    /// Shows `device`, which is ready, under `spec.name`, which is free. The device must stay until
    /// `shut_down` or, after a `detach`, until it has answered what it was asked. Suspends.
    async::Task<Outcome<Listed>> attach(Spec spec, block::Device& device);
    /// `force`: in any case, within `kDetachMax`. Else refuses while it is in use. Suspends.
    async::Task<Outcome<>> detach(std::string name, bool force);
    /// What an earlier life has left of `spec`, and this one has not taken over. Without `force` it
    /// refuses while it is in use. Suspends.
    async::Task<Outcome<>> discard(Spec spec, bool force);
    /// Devices may have grown: the kernel is told.
    void look();

    [[nodiscard]] bool contains(std::string_view name) const { return all_.contains(name); }
    [[nodiscard]] std::vector<Listed> list() const;
    /// Woken when one comes or goes.
    void on_change(std::function<void()> told) { told_ = std::move(told); }

    /// Ends all, as the daemon's end asks for. Suspends, until `deadline` at most.
    async::Task<void> shut_down(io::TimePoint deadline);
    /// Suspends until the devices have answered what they were asked. After `shut_down`.
    async::Task<void> gone();

  private:
    struct Entry;
    async::Task<Outcome<std::unique_ptr<Attachment>>> try_ways(const std::shared_ptr<Entry>& entry,
                                                               std::vector<std::string>& passed);
    async::Task<void> resize(std::shared_ptr<Entry> entry);
    static async::Task<void> let_go(std::shared_ptr<Entry> entry);
    static async::Task<void> let_go(std::unique_ptr<Attachment> attachment,
                                    std::shared_ptr<Entry> entry);
    static async::Task<void> part(std::shared_ptr<Entry> entry, io::TimePoint deadline);
    void take_out(const std::string& name);
    [[nodiscard]] static Listed listed(const Entry& entry);

    block::BufferPool& pool_;
    block::Account& connections_;
    std::vector<std::unique_ptr<Way>> ways_;
    std::map<std::string, std::shared_ptr<Entry>, std::less<>> all_;
    std::function<void()> told_;
    bool is_ending_ = false;
    async::Scope leaving_;  // has what was taken out, until its requests are done
    async::Scope working_;
};

}  // namespace dst::attach
