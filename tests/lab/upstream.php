<?php
// A script under PHP-FPM: answers at once, or hangs until FPM ends its process.
if (($_SERVER['REQUEST_URI'] ?? '') === '/hang') {
    sleep(60);
}
header('Content-Type: text/plain');
header('Content-Length: 6');
echo "hello\n";
