// The containers that containers.cpp measures, for any family of allocators (see there).
//
// Each is made for `count` elements. It can add its i-th, replace one of them by another (for each
// i another one), and visit all.
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <numeric>
#include <string>
#include <vector>

namespace bench {

/// 0 .. 2^32 - 1 in another order, without a table.
inline std::uint32_t scatter(std::size_t i) { return static_cast<std::uint32_t>(i) * 0x9E3779B1U; }

template <class Family>
class list_of {
public:
    list_of(Family& family, std::size_t) : list_(family.template get<std::uint32_t>()) {}

    void add(std::size_t i) { list_.push_back(scatter(i)); }

    /// Walks through the list and takes every second element out.
    void replace(std::size_t i)
    {
        if (place_ == list_.end()) place_ = list_.begin();
        place_ = list_.erase(place_);
        list_.push_front(scatter(i));
        if (place_ != list_.end()) ++place_;
    }

    [[nodiscard]] std::size_t visit() const
    {
        return std::accumulate(list_.begin(), list_.end(), std::size_t{0});
    }

private:
    using list = std::list<std::uint32_t, typename Family::template of<std::uint32_t>>;
    list list_;
    typename list::iterator place_ = list_.end();
};

template <class Container>
class keyed {
public:
    template <class Family>
    keyed(Family& family, std::size_t count)
        : container_(family.template get<typename Container::value_type>()), count_(count)
    {}

    void add(std::size_t i)
    {
        if constexpr (is_map)
            container_.emplace(scatter(i), 1U);
        else
            container_.insert(scatter(i));
    }

    void replace(std::size_t i)
    {
        container_.erase(scatter(scatter(i) % count_));
        add(count_ + i);
    }

    [[nodiscard]] std::size_t visit() const
    {
        std::size_t sum = 0;
        for (const auto& element : container_) {
            if constexpr (is_map)
                sum += element.second;
            else
                sum += element;
        }
        return sum;
    }

private:
    static constexpr bool is_map = requires { typename Container::mapped_type; };
    Container container_;
    std::size_t count_;
};

template <class Family>
class strings_of {
public:
    strings_of(Family& family, std::size_t) : strings_(family.template get<string>()) {}

    void add(std::size_t i) { strings_.emplace_back(length(i), 'x'); }

    void replace(std::size_t i)
    {
        string& place = strings_[scatter(i) % strings_.size()];
        place = string(length(i + 1), 'y', place.get_allocator());
    }

    [[nodiscard]] std::size_t visit() const
    {
        std::size_t sum = 0;
        for (const string& s : strings_) sum += static_cast<unsigned char>(s.back());
        return sum;
    }

private:
    using string =
        std::basic_string<char, std::char_traits<char>, typename Family::template of<char>>;

    static std::size_t length(std::size_t i) { return 16 + scatter(i) / 1024 % 48; }

    std::vector<string, typename Family::template of<string>> strings_;
};

} // namespace bench
