-- Wireshark dissectors for INT v2.1 (MD over TCP and UDP, announced by a DSCP) and Telemetry Report v2.0 over UDP.
--
-- Install: copy to ~/.local/lib/wireshark/plugins/, or   tshark -X lua_script:deploy/wireshark/int.lua -r file.pcap
-- Settings: Preferences, Protocols, INT and TELREPORT:  int.dscp (23), int.any_dscp (off), telreport.port (32766)
-- Behind TCP and UDP ports that Wireshark knows, set "Try heuristic sub-dissectors first" for the protocol; for captures
-- of several links at once (the same segment twice), turn "Analyze TCP sequence numbers" off.
--
-- Specifications: P4.org In-band Network Telemetry 2.1, Telemetry Report Format 2.0. Units are those of the sending
-- node; Shadowplane's are microseconds and packets.

local int = Proto("int", "In-band Network Telemetry")
local report = Proto("telreport", "Telemetry Report")

int.prefs.dscp = Pref.uint("DSCP", 23, "The DSCP that announces INT in this domain")
int.prefs.any_dscp = Pref.bool("Any DSCP", false, "Look for INT behind every TCP and UDP header")
report.prefs.port = Pref.uint("UDP port", 32766, "Where telemetry reports arrive")

local types = { [1] = "MD", [2] = "Destination", [3] = "MX" }
local f = {
  shim_type = ProtoField.uint8("int.shim.type", "Type", base.DEC, types, 0xF0),
  npt = ProtoField.uint8("int.shim.npt", "Next protocol type", base.DEC, nil, 0x0C),
  length = ProtoField.uint8("int.shim.length", "Length (words)"),
  dscp = ProtoField.uint8("int.shim.dscp", "Original DSCP", base.HEX, nil, 0xFC),
  version = ProtoField.uint32("int.version", "Version", base.DEC, nil, 0xF0000000),
  discard = ProtoField.bool("int.discard", "Discard (D)", 32, nil, 0x08000000),
  hops_exceeded = ProtoField.bool("int.hops_exceeded", "Hop limit exceeded (E)", 32, nil, 0x04000000),
  mtu_exceeded = ProtoField.bool("int.mtu_exceeded", "MTU exceeded (M)", 32, nil, 0x02000000),
  hop_ml = ProtoField.uint32("int.hop_ml", "Words per hop", base.DEC, nil, 0x00001F00),
  remaining = ProtoField.uint32("int.remaining", "Remaining hops", base.DEC, nil, 0x000000FF),
  instructions = ProtoField.uint16("int.instructions", "Instruction bitmap", base.HEX),
  domain = ProtoField.uint16("int.domain", "Domain specific id", base.HEX),
  ds_instructions = ProtoField.uint16("int.ds_instructions", "Domain specific instructions", base.HEX),
  ds_flags = ProtoField.uint16("int.ds_flags", "Domain specific flags", base.HEX),
  hops = ProtoField.uint8("int.hops", "Hops"),
  hop = ProtoField.bytes("int.hop", "Hop"),
  node_id = ProtoField.uint32("int.hop.node_id", "Node id"),
  ingress_port = ProtoField.uint16("int.hop.ingress_port", "Ingress interface"),
  egress_port = ProtoField.uint16("int.hop.egress_port", "Egress interface"),
  latency = ProtoField.uint32("int.hop.latency", "Hop latency"),
  queue_id = ProtoField.uint8("int.hop.queue_id", "Queue id"),
  queue = ProtoField.uint24("int.hop.queue", "Queue occupancy"),
  ingress_time = ProtoField.uint64("int.hop.ingress_time", "Ingress time"),
  egress_time = ProtoField.uint64("int.hop.egress_time", "Egress time"),
  ingress_port2 = ProtoField.uint32("int.hop.ingress_port2", "Level 2 ingress interface"),
  egress_port2 = ProtoField.uint32("int.hop.egress_port2", "Level 2 egress interface"),
  utilization = ProtoField.uint32("int.hop.tx_utilization", "Egress utilization"),
  buffer_id = ProtoField.uint8("int.hop.buffer_id", "Buffer id"),
  buffer = ProtoField.uint24("int.hop.buffer", "Buffer occupancy"),
  reserved = ProtoField.uint32("int.hop.reserved", "Reserved", base.HEX),
  complement = ProtoField.uint32("int.hop.checksum_complement", "Checksum complement", base.HEX),
  unknown = ProtoField.bytes("int.hop.unknown", "Not available (all ones)"),
  domain_data = ProtoField.bytes("int.hop.domain_data", "Domain specific metadata"),
}
int.fields = f

local inner_types = { [0] = "None", "TLV", "Domain specific", "Ethernet", "IPv4", "IPv6" }
local g = {
  version = ProtoField.uint32("telreport.version", "Version", base.DEC, nil, 0xF0000000),
  hw_id = ProtoField.uint32("telreport.hw_id", "Hardware id", base.DEC, nil, 0x0FC00000),
  sequence = ProtoField.uint32("telreport.sequence", "Sequence number", base.DEC, nil, 0x003FFFFF),
  node_id = ProtoField.uint32("telreport.node_id", "Node id"),
  rep_type = ProtoField.uint8("telreport.rep_type", "Report type", base.DEC, { [0] = "Inner only", "INT", "IOAM" }, 0xF0),
  in_type = ProtoField.uint8("telreport.in_type", "Inner type", base.DEC, inner_types, 0x0F),
  length = ProtoField.uint8("telreport.length", "Report length (words)"),
  md_length = ProtoField.uint8("telreport.md_length", "Metadata length (words)"),
  dropped = ProtoField.bool("telreport.dropped", "Dropped (D)", 8, nil, 0x80),
  congested = ProtoField.bool("telreport.congested", "Congested queue (Q)", 8, nil, 0x40),
  tracked = ProtoField.bool("telreport.tracked", "Tracked flow (F)", 8, nil, 0x20),
  intermediate = ProtoField.bool("telreport.intermediate", "Intermediate (I)", 8, nil, 0x10),
  bits = ProtoField.uint16("telreport.bits", "Metadata bits", base.HEX),
  domain = ProtoField.uint16("telreport.domain", "Domain specific id", base.HEX),
  ds_bits = ProtoField.uint16("telreport.ds_bits", "Domain specific metadata bits", base.HEX),
  ds_status = ProtoField.uint16("telreport.ds_status", "Domain specific status", base.HEX),
  drop_reason = ProtoField.uint8("telreport.drop_reason", "Drop reason"),
}
report.fields = g

local too_short = ProtoExpert.new("int.too_short", "INT length beyond the packet", expert.group.MALFORMED,
  expert.severity.ERROR)
int.experts = { too_short }
local cut = ProtoExpert.new("telreport.cut", "Telemetry report cut short", expert.group.MALFORMED,
  expert.severity.ERROR)
local odd = ProtoExpert.new("telreport.odd", "Malformed packet in a telemetry report", expert.group.MALFORMED,
  expert.severity.ERROR)
report.experts = { cut, odd }

local function bit_set(bitmap, bit)
  return math.floor(bitmap / 2 ^ (15 - bit)) % 2 == 1
end

local function all_ones(range)
  for i = 0, range:len() - 1 do
    if range(i, 1):uint() ~= 0xFF then return false end
  end
  return true
end

-- The metadata of one hop, as its bitmap says; returns a text for the summary.
local function metadata(tvb, at, size, bitmap, tree, dropped)
  local stop, text = at + size, ""
  for bit = 0, 15 do
    local bytes = (bit >= 4 and bit <= 6) and 8 or 4
    if bit_set(bitmap, bit) and at + bytes <= stop then
      local range = tvb(at, bytes)
      if all_ones(range) then
        tree:add(f.unknown, range):append_text(" (bit " .. bit .. ")")
      elseif bit == 0 then
        tree:add(f.node_id, range)
        text = text .. " node " .. range:uint()
      elseif bit == 1 then
        tree:add(f.ingress_port, range(0, 2))
        tree:add(f.egress_port, range(2, 2))
        text = text .. " ports " .. range(0, 2):uint() .. " to " .. range(2, 2):uint()
      elseif bit == 2 then
        tree:add(f.latency, range)
        text = text .. " latency " .. range:uint()
      elseif bit == 3 then
        tree:add(f.queue_id, range(0, 1))
        tree:add(f.queue, range(1, 3))
        text = text .. " queue " .. range(1, 3):uint()
      elseif bit == 4 then tree:add(f.ingress_time, range)
      elseif bit == 5 then tree:add(f.egress_time, range)
      elseif bit == 6 then
        tree:add(f.ingress_port2, range(0, 4))
        tree:add(f.egress_port2, range(4, 4))
      elseif bit == 7 then tree:add(f.utilization, range)
      elseif bit == 8 then
        tree:add(f.buffer_id, range(0, 1))
        tree:add(f.buffer, range(1, 3))
      elseif bit == 15 and dropped then
        tree:add(f.queue_id, range(0, 1))
        tree:add(g.drop_reason, range(1, 1))
      elseif bit == 15 then tree:add(f.complement, range)
      else tree:add(f.reserved, range) end
      at = at + bytes
    end
  end
  if at < stop then tree:add(f.domain_data, tvb(at, stop - at)) end
  return text
end

-- INT at the start of tvb; returns the bytes it takes, 0 if it is none.
local function dissect_int(tvb, pinfo, tree)
  if tvb:len() < 16 or tvb(0, 1):uint() - tvb(0, 1):uint() % 16 ~= 0x10 then return 0 end
  if math.floor(tvb(4, 1):uint() / 16) ~= 2 then return 0 end
  local total = 4 + tvb(1, 1):uint() * 4
  local here = math.max(16, math.min(total, tvb:len()))
  local sub = tree:add(int, tvb(0, here))
  sub:add(f.shim_type, tvb(0, 1))
  sub:add(f.npt, tvb(0, 1))
  sub:add(f.length, tvb(1, 1))
  sub:add(f.dscp, tvb(3, 1))
  for _, field in ipairs({ f.version, f.discard, f.hops_exceeded, f.mtu_exceeded, f.hop_ml, f.remaining }) do
    sub:add(field, tvb(4, 4))
  end
  sub:add(f.instructions, tvb(8, 2))
  sub:add(f.domain, tvb(10, 2))
  sub:add(f.ds_instructions, tvb(12, 2))
  sub:add(f.ds_flags, tvb(14, 2))
  if total > tvb:len() or total < 16 then sub:add_proto_expert_info(too_short) end
  local size, bitmap = (tvb(6, 1):uint() % 32) * 4, tvb(8, 2):uint()
  local count, at = 0, 16
  while size > 0 and at + size <= here do
    count = count + 1
    local hop = sub:add(f.hop, tvb(at, size))
    hop:set_text("Hop " .. count .. " (from here back):" .. metadata(tvb, at, size, bitmap, hop, false))
    at = at + size
  end
  sub:add(f.hops, count):set_generated()
  pinfo.cols.protocol = "INT"
  pinfo.cols.info:append(" [INT " .. count .. (count == 1 and " hop]" or " hops]"))
  return here
end

local dscp4, dscp6 = Field.new("ip.dsfield.dscp"), Field.new("ipv6.tclass.dscp")

local function announced()
  if int.prefs.any_dscp then return true end
  for _, extractor in ipairs({ dscp4, dscp6 }) do
    local all = { extractor() }
    if #all > 0 and all[#all].value == int.prefs.dscp then return true end
  end
  return false
end

local function heuristic(tvb, pinfo, tree)
  if not announced() then return false end
  local used = dissect_int(tvb, pinfo, tree)
  if used == 0 then return false end
  if used < tvb:len() then
    Dissector.get("data"):call(tvb(used):tvb(), pinfo, tree)
  end
  return true
end

int:register_heuristic("udp", heuristic)
int:register_heuristic("tcp", heuristic)

function int.dissector(tvb, pinfo, tree)
  return dissect_int(tvb, pinfo, tree)
end

local inner = { [3] = "eth_withoutfcs", [4] = "ip", [5] = "ipv6" }

function report.dissector(tvb, pinfo, tree)
  if tvb:len() < 8 or math.floor(tvb(0, 1):uint() / 16) ~= 2 then return 0 end
  pinfo.cols.protocol = "TELREPORT"
  local sub = tree:add(report, tvb())
  for _, field in ipairs({ g.version, g.hw_id, g.sequence }) do sub:add(field, tvb(0, 4)) end
  sub:add(g.node_id, tvb(4, 4))
  local at, count = 8, 0
  while at < tvb:len() do
    if tvb:len() - at < 4 then
      sub:add_proto_expert_info(cut)
      break
    end
    local kind, length = tvb(at, 1):uint(), tvb(at + 1, 1):uint()
    local stop = length == 255 and tvb:len() or at + 4 + length * 4
    local one = sub:add(report, tvb(at, math.min(stop, tvb:len()) - at), "Individual report " .. count + 1)
    one:add(g.rep_type, tvb(at, 1))
    one:add(g.in_type, tvb(at, 1))
    one:add(g.length, tvb(at + 1, 1))
    one:add(g.md_length, tvb(at + 2, 1))
    for _, field in ipairs({ g.dropped, g.congested, g.tracked, g.intermediate }) do one:add(field, tvb(at + 3, 1)) end
    local place, md = at + 4, tvb(at + 2, 1):uint() * 4
    if stop > tvb:len() then
      one:add_proto_expert_info(cut)
      break
    end
    if math.floor(kind / 16) == 1 then
      if place + 8 + md > stop then
        one:add_proto_expert_info(cut)
        break
      end
      one:add(g.bits, tvb(place, 2))
      one:add(g.domain, tvb(place + 2, 2))
      one:add(g.ds_bits, tvb(place + 4, 2))
      one:add(g.ds_status, tvb(place + 6, 2))
      metadata(tvb, place + 8, md, tvb(place, 2):uint(), one, true)
      place = place + 8 + md
    end
    local name = inner[kind % 16]
    if name and place < stop then
      local columns = tostring(pinfo.cols.info)
      local packet = Dissector.get(name)
      local fine = pcall(packet.call, packet, tvb(place, stop - place):tvb(), pinfo, one)
      if not fine then one:add_proto_expert_info(odd) end -- what follows in the report is still worth showing
      pinfo.cols.info = columns
    end
    count = count + 1
    at = stop
  end
  pinfo.cols.protocol = "TELREPORT"
  pinfo.cols.info = "Telemetry report, node " .. tvb(4, 4):uint() .. ", " .. count .. (count == 1 and " report" or " reports")
  return tvb:len()
end

local registered
function report.init()
  if registered ~= report.prefs.port then
    local ports = DissectorTable.get("udp.port")
    if registered then ports:remove(registered, report) end
    ports:add(report.prefs.port, report)
    registered = report.prefs.port
  end
end
