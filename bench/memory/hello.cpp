// hello: the least that a program with iostreams costs. Its peak RSS is what counts.
#include <iostream>

int main() { std::cout << "hello\n"; }
