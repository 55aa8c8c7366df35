//! One bounded record per connection and listener, fed by events.
