// Tables that start with entries which a controller may change.
#include <core.p4>
#include <v1model.p4>
header h_t { bit<8> a; bit<8> b; }
struct H { h_t h; } struct M {}
parser P(packet_in p, out H h, inout M m, inout standard_metadata_t s){ state start { p.extract(h.h); transition accept; } }
control V(inout H h, inout M m){apply{}} control C(inout H h, inout M m){apply{}}
control I(inout H h, inout M m, inout standard_metadata_t s){
  action go(bit<9> p){ s.egress_spec=p; } action no(){ mark_to_drop(s);}
  table pre { key={h.h.a: exact;} actions={go;no;} default_action=no; entries={ const 8w1: go(1); 8w2: go(2); } size=16; }
  table ter { key={h.h.a: ternary;} actions={go;no;} default_action=no; entries={ priority=10: 8w1 &&& 8w3: go(1); priority=5: 8w2: go(2); } size=16; }
  apply{ pre.apply(); ter.apply(); } }
control E(inout H h, inout M m, inout standard_metadata_t s){apply{}}
control D(packet_out p, in H h){apply{p.emit(h.h);}}
V1Switch(P(),V(),I(),E(),C(),D()) main;
