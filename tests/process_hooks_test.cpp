// What the process tells its heaps.
#include <binmalloc/process_hooks.hpp>

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <thread>
#include <vector>

namespace {

using binmalloc::detail::add_process_hook;
using binmalloc::detail::process_hook;
using binmalloc::detail::process_hooks;

void nothing() noexcept {}

bool is_listed(const process_hook& hook)
{
    for (const auto* h = process_hooks.load(); h != nullptr; h = h->next)
        if (h == &hook) return true;
    return false;
}

// Two threads that make one heap at the same time both use it at once, so for both it must be told of forks.
TEST(ProcessHook, is_in_the_list_whoever_adds_it)
{
    process_hook* const before = process_hooks.load();
    constexpr int hooks = 20'000;
    constexpr int threads = 2;
    std::vector<std::unique_ptr<process_hook>> added;
    for (int i = 0; i < hooks; ++i)
        added.emplace_back(new process_hook{nothing, nothing, nothing, nothing});
    std::atomic<int> arrived{0};
    std::atomic<int> missing{0};
    const auto add_all = [&] {
        for (int i = 0; i < hooks; ++i) {
            arrived.fetch_add(1);
            for (int n = 1; arrived.load() < (i + 1) * threads; ++n)
                if (n % 1000 == 0) std::this_thread::yield();
            process_hook& hook = *added[static_cast<std::size_t>(i)];
            add_process_hook(hook);
            if (!is_listed(hook)) missing.fetch_add(1);
        }
    };
    std::vector<std::thread> running;
    for (int i = 0; i < threads; ++i) running.emplace_back(add_all);
    for (auto& thread : running) thread.join();
    EXPECT_EQ(missing.load(), 0);
    int listed = 0;
    for (const auto* h = process_hooks.load(); h != before; h = h->next) ++listed;
    EXPECT_EQ(listed, hooks) << "each once";
    process_hooks.store(before);
}

} // namespace
