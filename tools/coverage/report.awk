# Reads lcov: prints for each file how many of its lines and branches were reached, then each that was not. Tables that stand
# in a file are not counted, nor is what only a bug on purpose would reach (src/deliberate.rs).

function read_source(   line, n, indent, depth) {
  delete text
  delete deliberate
  tables = 0
  depth = -1
  while ((getline line < file) > 0) {
    text[++n] = line
    if (line ~ /^mod tests \{/) tables = n
    indent = match(line, /[^ ]/) - 1
    if (line !~ /^ *$/ && indent <= depth) depth = -1
    if (depth >= 0 || line ~ /bug!\(/) deliberate[n] = 1
    if (line ~ /bug!\(.*\{$/) depth = indent
  }
  close(file)
  if (!tables) tables = n + 1
}

function missed(number, what) {
  sub(/^ +/, "", text[number])
  misses[++missing] = sprintf("%s:%d: %s: %s", name, number, what, text[number])
}

function share(reached, all) {
  return all ? sprintf("%d of %d (%.1f %%)", reached, all, 100 * reached / all) : "none"
}

function tell(name, lines, lines_reached, branches, branches_reached) {
  printf "%-42s lines %-22s branches %s\n", name, share(lines_reached, lines), share(branches_reached, branches)
}

/^SF:/ {
  file = substr($0, 4)
  name = file
  sub("^" root, "", name)
  read_source()
  lines = lines_reached = branches = branches_reached = 0
}

/^(DA|BRDA):/ {
  split(substr($0, index($0, ":") + 1), part, ",")
  number = part[1]
  if (number >= tables) next
}

/^DA:/ {
  if (!part[2] && deliberate[number]) next
  lines++
  if (part[2] > 0) lines_reached++
  else missed(number, "never reached")
}

/^BRDA:/ {
  taken = part[4] != "-" && part[4] > 0
  if (!taken && deliberate[number]) next
  branches++
  if (taken) branches_reached++
  else missed(number, "condition " part[2] + 1 " is never " (part[3] % 2 ? "false" : "true"))
}

/^end_of_record/ {
  tell(name, lines, lines_reached, branches, branches_reached)
  all_lines += lines
  all_lines_reached += lines_reached
  all_branches += branches
  all_branches_reached += branches_reached
}

END {
  tell("in all", all_lines, all_lines_reached, all_branches, all_branches_reached)
  for (n = 1; n <= missing; n++) print misses[n]
}
