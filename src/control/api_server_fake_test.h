// For tests: a reactor that is a plain thread, and a daemon that only notes what it is asked for.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "async/run_queue.h"
#include "async/scope.h"
#include "async/wait.h"
#include "control/operations.h"

namespace dst::control {

/// A thread that runs tasks, as a reactor would; none of them goes on after it first waited.
class Reactor {
  public:
    Reactor() : thread_([this] { run(); }) {}
    ~Reactor() {
        {
            const std::lock_guard lock(mutex_);
            is_ending_ = true;
        }
        changed_.notify_all();
        thread_.join();
    }
    SpawnOnReactor spawner() {
        return [this](std::function<async::Task<void>()> make) {
            {
                const std::lock_guard lock(mutex_);
                queue_.push_back(std::move(make));
            }
            changed_.notify_all();
        };
    }
    /// While paused, nothing that is spawned begins.
    void pause() { is_paused_ = true; }
    std::thread::id id() const { return thread_.get_id(); }

  private:
    void run() {
        async::RunQueue ready;
        const async::RunQueue::Enter entered(ready);
        async::Scope scope;
        std::unique_lock lock(mutex_);
        while (true) {
            changed_.wait(lock, [this] { return is_ending_ || (!queue_.empty() && !is_paused_); });
            if (is_ending_) break;
            auto make = std::move(queue_.front());
            queue_.pop_front();
            lock.unlock();
            scope.spawn(make());
            make = {};
            lock.lock();
        }
        queue_.clear();
    }

    std::mutex mutex_;
    std::condition_variable changed_;
    std::deque<std::function<async::Task<void>()>> queue_;
    bool is_ending_ = false;
    std::atomic<bool> is_paused_ = false;
    std::thread thread_;
};

/// Notes what it was asked for; refuses what is named "bad"; never ends what is named "slow".
class FakeOperations final : public Operations {
  public:
    async::Task<Outcome<Status>> status() override {
        ran_on = std::this_thread::get_id();
        Status status;
        status.version = "test";
        status.storages.push_back({.name = "vol0",
                                   .algorithm = "linear",
                                   .size = {},
                                   .state = StorageState::running,
                                   .reason = {},
                                   .since = {},
                                   .attached_as = {},
                                   .nodes = {},
                                   .resync = {}});
        co_return status;
    }
    async::Task<Outcome<std::string>> config() override {
        co_return R"({"file":"","in_force":"memory = \"64M\"\n","stopped":[],"differences":[]})";
    }
    async::Task<Outcome<std::string>> plan(Config wanted, bool prune) override {
        co_return fmt::format(
            R"({{"steps":[{{"text":"remove export '{}'","interrupts":{},"method":"DELETE",)"
            R"("path":"/v1/exports/e","body":"","waits_for":""}}],"remarks":[]}})",
            wanted.exports.empty() ? "e" : wanted.exports.front().name, prune);
    }
    async::Task<Outcome<std::string>> metrics() override { co_return "dst_build_info 1\n"; }
    async::Task<Outcome<std::string>> events(std::uint64_t after, bool wait) override {
        co_return fmt::format(R"({{"last":{},"events":[],"waited":{}}})", after, wait);
    }
    async::Task<Outcome<>> storage_create(StorageSpec spec, bool start) override {
        co_return co_await done(spec.name, to_json(spec) + (start ? " start" : " stopped"));
    }
    async::Task<Outcome<>> storage_assemble(StorageSpec spec) override {
        co_return co_await done(spec.name, to_json(spec) + " assemble");
    }
    async::Task<Outcome<>> storage_start(std::string name, Starting how) override {
        co_return co_await done(name, std::string("start") + (how.force ? " by force" : "") +
                                          (how.keep.empty() ? "" : " keep " + how.keep));
    }
    async::Task<Outcome<std::string>> storage_what_if(std::string name) override {
        co_return R"({"storage":")" + name + R"(","losses":[]})";
    }
    async::Task<Outcome<>> storage_verify(std::string name, bool repair) override {
        co_return co_await done(name, repair ? "verify and repair" : "verify");
    }
    async::Task<Outcome<>> storage_grow(std::string name) override {
        co_return co_await done(name, "grow");
    }
    async::Task<Outcome<>> storage_set_resync(std::string name, ResyncChange change) override {
        co_return co_await done(
            name, "resync" + (change.size ? " " + std::to_string(change.size->value()) : "") +
                      (change.timeout ? " " + std::to_string(change.timeout->count()) : ""));
    }
    async::Task<Outcome<>> storage_stop(std::string name) override {
        co_return co_await done(name, "stop");
    }
    async::Task<Outcome<>> storage_remove(std::string name) override {
        co_return co_await done(name, "remove");
    }
    async::Task<Outcome<>> node_add(std::string storage, NodeSpec spec, Adding how) override {
        co_return co_await done(storage, "node " + to_string(spec) +
                                             (how.is_witness ? " witness" : "") +
                                             (how.force ? " by force" : ""));
    }
    async::Task<Outcome<>> node_remove(std::string storage, std::string node, bool force) override {
        co_return co_await done(storage, "without " + node + (force ? " by force" : ""));
    }
    async::Task<Outcome<>> node_replace(std::string storage, std::string node, NodeSpec spec,
                                        Adding how) override {
        co_return co_await done(storage,
                                to_string(spec) + " for " + node + (how.force ? " by force" : ""));
    }
    async::Task<Outcome<>> node_mark(std::string storage, std::string node, NodeMark mark,
                                     bool force) override {
        co_return co_await done(storage, node + (mark == NodeMark::dirty ? " dirty" : " clean") +
                                             (force ? " by force" : ""));
    }
    async::Task<Outcome<>> remove_all_nodes(std::string storage) override {
        co_return co_await done(storage, "remove all nodes");
    }
    async::Task<Outcome<std::string>> tree_read(std::string path) override {
        if (path == "bad") co_return refuse(ErrorCode::not_found, "there is no bad");
        co_return "{\"value\":\"" + path + "\"}";
    }
    async::Task<Outcome<>> tree_write(std::string path, std::string value) override {
        co_return co_await done(path, value);
    }
    async::Task<Outcome<>> export_add(ExportSpec spec) override {
        co_return co_await done(spec.name, "export " + to_string(spec.device));
    }
    async::Task<Outcome<>> export_remove(std::string name) override {
        co_return co_await done(name, "unexport");
    }
    async::Task<Outcome<std::vector<ExportStatus>>> export_list() override {
        co_return std::vector<ExportStatus>{{"e", "/d", SectorCount(8), 1, false, ""}};
    }
    async::Task<Outcome<AttachmentStatus>> attach(attach::Spec spec) override {
        CO_TRY_VOID(co_await done(
            spec.name, std::string("attach") +
                           (spec.via ? " " + std::string(to_string(*spec.via)) : "") +
                           (spec.read_only ? " read-only" : "") + (spec.file_only ? " file" : "")));
        co_return AttachmentStatus{spec.name, "fuse", "/dev/loop9", SectorCount(8), spec.read_only};
    }
    async::Task<Outcome<>> detach(std::string name, bool force) override {
        co_return co_await done(name, force ? "detach by force" : "detach");
    }
    async::Task<Outcome<std::vector<AttachmentStatus>>> attach_list() override {
        co_return std::vector<AttachmentStatus>{{"vol0", "fuse", "/dev/loop9", SectorCount(8)}};
    }
    async::Task<Outcome<AlgorithmStatus>> algorithm_load(std::string file) override {
        co_return AlgorithmStatus{"stripe", "", file, 0};
    }
    async::Task<Outcome<std::vector<AlgorithmStatus>>> algorithm_list() override {
        co_return std::vector<AlgorithmStatus>{{"linear", "", "", 3}};
    }
    async::Task<Outcome<>> algorithm_unload(std::string name) override {
        co_return co_await done(name, "unload");
    }

    std::string last;
    std::atomic<std::thread::id> ran_on;
    std::atomic<int> begun = 0;

  private:
    async::Task<Outcome<>> done(std::string name, std::string what) {
        ++begun;
        if (name == "slow") co_await never_.wait();
        if (name == "bad") co_return refuse(ErrorCode::busy, "bad is in use; stop it first");
        last = name + ": " + what;
        co_return Outcome<>{};
    }

    async::Event never_;
};

}  // namespace dst::control
