-- lua_strings.lua LINES: builds, joins, splits and rewrites strings and tables of them.
-- Only arrays are iterated: the order of a hash table differs from run to run.

local line_count = tonumber(arg[1])

-- A linear congruential generator: math.random() is not the same in every version.
local state = 42
local function next_number(limit)
  state = (state * 1103515245 + 12345) % 2147483648
  return (state // 256) % limit
end

local function make_word()
  local letters = {}
  for i = 1, 2 + next_number(10) do letters[i] = string.char(97 + next_number(26)) end
  return table.concat(letters)
end

local lines = {}
for i = 1, line_count do
  local words = {}
  for j = 1, 4 + next_number(8) do words[j] = make_word() end
  lines[i] = table.concat(words, " ")
end

local seen, distinct, fields = {}, 0, {}
for i, line in ipairs(lines) do
  for word in line:gmatch("%a+") do
    if not seen[word] then
      seen[word] = i
      distinct = distinct + 1
    end
    fields[#fields + 1] = { line = i, text = word:upper(), length = #word }
  end
end
print(#lines, distinct, #fields)

table.sort(fields, function(a, b)
  if a.text ~= b.text then return a.text < b.text end
  return a.line < b.line
end)
print(fields[1].text, fields[#fields].text)

for i, line in ipairs(lines) do
  lines[i] = line:gsub("(%a)(%a*)", "%2%1"):rep(1 + i % 3, "; ")
end

local sum = 0
for i = 1, #lines do
  local text = string.format("%06d %s", i, lines[i])
  sum = (sum * 31 + #text + text:byte(-1)) % 4294967296
end
print(sum, #table.concat(lines, "\n"), fields[1].line)
