#include "algorithm/registry.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <stdexcept>

#include "algorithm/linear.h"

namespace dst::algorithm {
namespace {

using ::testing::HasSubstr;

/// Notes when it goes, to see what goes first.
class Noting final : public Algorithm {
  public:
    explicit Noting(std::vector<std::string>& log) : log_(log) {}
    ~Noting() override { log_.push_back("instance"); }
    Outcome<> add_node(node::Node&) override { return {}; }
    void del_node(node::Node&) override {}
    async::Task<Result<>> remap(block::Request&) override { co_return Result<>{}; }
    async::Task<Recovery> error(node::Node&, Error) override { co_return Recovery::not_fixed; }
    block::Geometry geometry() const override { return {}; }

  private:
    std::vector<std::string>& log_;
};

class RegistryTest : public ::testing::Test {
  protected:
    [[nodiscard]] Origin file() {
        struct Code {
            std::vector<std::string>& log;
            ~Code() { log.push_back("code"); }
        };
        return {.file = "/lib/noting.so", .code = std::shared_ptr<Code>(new Code{log})};
    }
    [[nodiscard]] Factory factory() {
        return [this](const Options&) -> Outcome<std::unique_ptr<Algorithm>> {
            return std::make_unique<Noting>(log);
        };
    }
    void SetUp() override {
        ASSERT_TRUE(registry.register_algorithm("linear", "end to end", make_linear).has_value());
        ASSERT_TRUE(registry.register_algorithm("noting", "notes", factory(), file()).has_value());
    }

    std::vector<std::string> log;
    Registry registry;
};

TEST_F(RegistryTest, lists_names_uses_and_where_they_come_from) {
    const auto one = registry.create("noting", {});
    const auto two = registry.create("noting", {});
    const auto listed = registry.list();
    ASSERT_EQ(listed.size(), 2u);
    EXPECT_EQ(listed[0].name, "linear");
    EXPECT_EQ(listed[0].file, "");
    EXPECT_EQ(listed[0].uses, 0u);
    EXPECT_EQ(listed[1].name, "noting");
    EXPECT_EQ(listed[1].description, "notes");
    EXPECT_EQ(listed[1].file, "/lib/noting.so");
    EXPECT_EQ(listed[1].uses, 2u);
}

TEST_F(RegistryTest, an_unknown_name_is_refused_with_those_that_are_known) {
    const auto refused = registry.create("raid7", {});
    ASSERT_FALSE(refused.has_value());
    EXPECT_EQ(refused.error().code, ErrorCode::not_found);
    EXPECT_THAT(refused.error().text, HasSubstr("\"raid7\""));
    EXPECT_THAT(refused.error().text, HasSubstr("mirror, linear, noting"));
    EXPECT_EQ(registry.unregister_algorithm("raid7").error().code, ErrorCode::not_found);
}

TEST_F(RegistryTest, an_algorithm_in_use_can_not_be_removed) {
    auto one = registry.create("noting", {});
    auto two = registry.create("noting", {});
    EXPECT_EQ(registry.unregister_algorithm("noting").error().code, ErrorCode::busy);
    EXPECT_THAT(registry.unregister_algorithm("noting").error().text,
                HasSubstr("used by 2 storages"));
    one->reset();
    EXPECT_THAT(registry.unregister_algorithm("noting").error().text,
                HasSubstr("used by 1 storage:"));
    *two = {};
    EXPECT_TRUE(registry.unregister_algorithm("noting").has_value());
    EXPECT_EQ(registry.create("noting", {}).error().code, ErrorCode::not_found);
}

TEST_F(RegistryTest, the_code_goes_after_the_last_instance) {
    auto instance = registry.create("noting", {});
    instance->reset();
    EXPECT_THAT(log, ::testing::ElementsAre("instance"));
    ASSERT_TRUE(registry.unregister_algorithm("noting").has_value());
    EXPECT_THAT(log, ::testing::ElementsAre("instance", "code"));
}

TEST_F(RegistryTest, an_instance_that_outlives_the_registry_keeps_its_code) {
    InstanceHandle instance;
    {
        Registry brief;
        ASSERT_TRUE(brief.register_algorithm("noting", "", factory(), file()).has_value());
        instance = *brief.create("noting", {});
    }
    EXPECT_TRUE(log.empty());
    instance.reset();
    EXPECT_THAT(log, ::testing::ElementsAre("instance", "code"));
}

TEST_F(RegistryTest, what_is_built_in_stays) {
    const auto refused = registry.unregister_algorithm("linear");
    EXPECT_EQ(refused.error().code, ErrorCode::busy);
    EXPECT_THAT(refused.error().text, HasSubstr("built in"));
}

TEST_F(RegistryTest, a_name_that_is_taken_or_malformed_is_refused) {
    EXPECT_EQ(registry.register_algorithm("noting", "", factory(), file()).error().code,
              ErrorCode::exists);
    EXPECT_THAT(registry.register_algorithm("noting", "", factory(), file()).error().text,
                HasSubstr("unload it first, it is loaded from /lib/noting.so"));
    EXPECT_THAT(registry.register_algorithm("linear", "", factory(), file()).error().text,
                HasSubstr("built in"));
    for (const char* const name :
         {"", "Stripe", "a b", "a/b", "a\nb", "a-name-of-more-than-thirty-two-characters"})
        EXPECT_FALSE(registry.register_algorithm(name, "", factory()).has_value()) << name;
}

TEST_F(RegistryTest, what_a_factory_refuses_or_throws_is_a_refusal) {
    EXPECT_THAT(registry.create("linear", {{"chunk", "1"}}).error().text, HasSubstr("no option"));
    const auto add = [&](const char* name, Factory made) {
        ASSERT_TRUE(registry.register_algorithm(name, "", std::move(made)).has_value());
    };
    add("throws", [](const Options&) -> Outcome<std::unique_ptr<Algorithm>> {
        throw std::invalid_argument("stoul");
    });
    add("nothing", [](const Options&) -> Outcome<std::unique_ptr<Algorithm>> { return nullptr; });
    EXPECT_THAT(registry.create("throws", {}).error().text, HasSubstr("stoul"));
    EXPECT_FALSE(registry.create("nothing", {}).has_value());
    for (const auto& listed : registry.list()) EXPECT_EQ(listed.uses, 0u) << listed.name;
}

}  // namespace
}  // namespace dst::algorithm
