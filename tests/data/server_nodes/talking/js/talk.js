console.log('talking');
