package notify

// ByAddress is what TLSByAddress stands for.
var ByAddress = byAddress
