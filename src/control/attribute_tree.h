// The tree of attributes: devices/STORAGE/ATTRIBUTE and devices/STORAGE/n-START-COOKIE/ATTRIBUTE.
//
// Made anew from the status with each look, so that it shows what everything else shows. What is
// written becomes an operation.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "control/attributes.h"
#include "control/operations.h"
#include "tree/content.h"

namespace dst::control {

class AttributeTree final : public tree::Content {
  public:
    /// Both outlive it.
    AttributeTree(const View& view, Operations& operations)
        : view_(view), operations_(operations) {}

    [[nodiscard]] std::optional<tree::Entry> find(std::string_view path) const override;
    [[nodiscard]] std::vector<tree::Named> list(std::string_view path) const override;
    [[nodiscard]] std::optional<std::string> read(std::string_view path) const override;
    async::Task<Outcome<>> write(std::string path, std::string value) override;
    /// {"value": "sync"} of a file, {"entries": ["alg", ...]} of a folder.
    [[nodiscard]] Outcome<std::string> read_as_json(std::string_view path) const;

  private:
    /// What a path stands for; parts that it does not have are unset.
    struct Spot {
        bool is_root = false;
        std::shared_ptr<const StorageStatus> storage;
        const NodeStatus* node = nullptr;  // within `storage`
        const AttributeInfo* attribute = nullptr;
    };
    [[nodiscard]] std::optional<Spot> spot_of(std::string_view path) const;

    const View& view_;
    Operations& operations_;
};

}  // namespace dst::control
