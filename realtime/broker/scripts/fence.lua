-- Mark a place for its own sake. ARGV: run, node, token.

if not known() then
  return RESUME
end
mark(ARGV[2], ARGV[3], '')
return { 'OK', '' }
