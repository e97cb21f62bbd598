package grpc

// NewClient stands in for that of grpc 1.63 and later, where grpc is older.
func NewClient(target string, opts ...DialOption) (*ClientConn, error) { return Dial(target, opts...) }
