# Groups, filters and rewrites the records of json_records.py; every step makes new values.
[ .[]
  | select(.values | length > 0)
  | . + { total: (.values | add), key: (.address.city + "/" + .name) } ]
| sort_by(.key)
| group_by(.group)
| map({
    group: .[0].group,
    count: length,
    total: (map(.total) | add),
    cities: (map(.address.city) | unique | length),
    text: (map(.key | ascii_upcase | split("/") | reverse | join(" of ")) | join(";") | length),
    bytes: (map(tojson | length) | add)
  })
| sort_by(.total)
| .[]
