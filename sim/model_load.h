// ModelLoad: one client's random requests, every read of which is compared with a model: each
// sector holds the stamp of the write that was the last one to be answered there.
//
// It is right where nothing acknowledged is ever lost, so behind a node, which keeps what is not
// durable. (Checkers of whole histories are made elsewhere.)
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "async/range_lock.h"
#include "sim/cluster.h"

namespace dst::sim {

/// Outlives the process that has the load.
struct Model {
    Model(SectorCount of, std::uint64_t requests)
        : size(of), total(requests), stamps(of.value()), left(requests) {}

    /// Nothing more will be asked.
    [[nodiscard]] bool is_over() const { return answered == total || !failure.empty(); }

    SectorCount size;
    SectorCount block{1};  // requests begin and end at blocks
    SectorCount longest{16};
    std::uint64_t total;
    /// Requests may fail: what a failed change left is unknown until it is written over.
    bool may_fail = false;
    static constexpr std::uint64_t kUnknown = ~std::uint64_t{0};
    std::vector<std::uint64_t> stamps;  // of each sector; 0: zeroes
    std::uint64_t last_stamp = 0;
    std::uint64_t left;
    std::uint64_t answered = 0;
    std::uint64_t failed = 0;
    /// What went wrong first; empty: nothing.
    std::string failure;
};

class ModelLoad final : public Load {
  public:
    explicit ModelLoad(Model& model) : model_(model) {}

    async::Task<void> run(Site site) override;
    void end() override { model_.left = 0; }

  private:
    async::Task<void> work(Site site);
    async::Task<Result<>> write(Site site, SectorRange range, bool fua);
    async::Task<Result<>> zero(Site site, SectorRange range);
    async::Task<Result<>> flush(Site site);
    async::Task<Result<>> read(Site site, SectorRange range);
    void note(SectorRange range, std::uint64_t stamp);
    void complain(std::string what);

    Model& model_;
    async::RangeLock order_;
};

}  // namespace dst::sim
